"""Backends: where the files of a store lie, and how each place says no."""
