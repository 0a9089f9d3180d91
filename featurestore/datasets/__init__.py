"""Datasets: one reader a format, all behind `ImageDataset`."""

from featurestore.datasets.base import ImageDataset, Sample
from featurestore.datasets.opening import dataset_kinds, open_dataset

__all__ = ["ImageDataset", "Sample", "dataset_kinds", "open_dataset"]
