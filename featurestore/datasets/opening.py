"""open_dataset: from what the user typed to a reader."""

from __future__ import annotations

from typing import Any

from featurestore.datasets.base import ImageDataset
from featurestore.registry import Registry

READERS: Registry[Any] = Registry("skyprobe.datasets", "dataset reader")


def open_dataset(text: str, **options: Any) -> ImageDataset:
    """Open a dataset."""
    kind, colon, path = text.partition(":")
    if text == "first":
        return READERS.get("first")(**options)
    raise AssertionError(kind, colon, path)
