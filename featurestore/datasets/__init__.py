"""Datasets: one reader a format, all behind `ImageDataset`."""

from featurestore.datasets.base import ImageDataset, Sample
from featurestore.datasets.opening import open_dataset

__all__ = ["ImageDataset", "Sample", "open_dataset"]
