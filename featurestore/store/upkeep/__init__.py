"""Upkeep of a store: from one format version to the next, and what nothing refers to."""
