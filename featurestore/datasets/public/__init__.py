"""Readers of public datasets, and how they are downloaded."""
