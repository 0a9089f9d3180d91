"""Data of a detection study: a dataset, divided and looked through."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from featurestore.datasets import open_dataset
from featurestore.datasets.base import ImageDataset
from featurestore.errors import FinetuneError, UsageError
from featurestore.preprocessing import Preprocessing, parse_variant
from finetune.detection.evaluation import detection_limit
from finetune.detection.features import DenseViews, load_views
from finetune.detection.targets import (
    AnnotatedImage,
    AnnotationSet,
    DetectionImages,
    check_preprocessing,
    read_annotations,
    stratified_table,
)
from probes.sweep.splits import Split, describe_split, divide_rows, order_rows

if TYPE_CHECKING:
    from featurestore.store import FeatureStore


@dataclass(frozen=True)
class DetectionData:
    """A dataset, divided and looked through.

    Attributes:
        dataset: Where images are read.
        variant: Name of the preprocessing.
        preprocessing: How an image becomes a square.
        split: Rows by their use.
        train: Images that train.
        valid: Images that validate; may be none.
        test: Images that test.
    """

    dataset: ImageDataset
    variant: str
    preprocessing: Preprocessing
    split: Split
    train: AnnotationSet
    valid: AnnotationSet
    test: AnnotationSet

    @property
    def told(self) -> str:
        """Where the rows come from, see `probes.sweep.splits.describe_split`."""
        return describe_split(stratified_table(self.dataset.table))

    @property
    def annotation_sets(self) -> tuple[AnnotationSet, AnnotationSet, AnnotationSet]:
        """Training, validation and test."""
        return self.train, self.valid, self.test

    @property
    def watched(self) -> AnnotationSet:
        """Images on which the score is followed by epoch: those of the validation split, else those of the test."""
        return self.valid if self.valid.has_objects else self.test

    @property
    def limit(self) -> int:
        """Detections of an image at most, see `finetune.detection.evaluation.detection_limit`."""
        return detection_limit(truth for part in self.annotation_sets for truth in part.images)

    @property
    def digest(self) -> str:
        """SHA-256 over images, boxes and rows by their use."""
        sha = hashlib.sha256(f"{self.dataset.table.fingerprint} {self.dataset.decoder}".encode())
        for part in self.annotation_sets:
            sha.update("\0".join((*part.classes, *(truth.sample_id for truth in part.images))).encode())
            for truth in part.images:
                sha.update(truth.boxes.tobytes() + truth.labels.tobytes() + truth.crowd.tobytes())
        return sha.hexdigest()

    def training_images(self, fraction: int, seed: int) -> tuple[AnnotatedImage, ...]:
        """Training images of a label fraction, by the rule of `probes.sweep.splits.order_rows`."""
        table = stratified_table(self.dataset.table)
        rows, _ = order_rows(table, self.split.train, seed=seed).divide(fraction)
        wanted = set(rows.tolist())
        return tuple(truth for truth in self.train.images if truth.row in wanted)

    def inputs(self, annotated: Sequence[AnnotatedImage]) -> DetectionImages:
        """Annotated images, preprocessed."""
        return DetectionImages(self.dataset, annotated, self.preprocessing)

    def views(self, store: FeatureStore | None, backbone: str) -> DenseViews:
        """The dense features of these images.

        Raises:
            UsageError: No store.
            SkyprobeError: See `finetune.detection.features.load_views`.
        """
        if store is None:
            raise UsageError("the mode stored needs a store", where="store", hint="Name it by --store.")
        return load_views(store, self.dataset.table.name, self.variant, self.preprocessing, backbone)


def prepare_data(data: str, variant: str, view: str) -> DetectionData:
    """Open a dataset with boxes, divide its rows by the rules of `probes.sweep.splits`, and look through its images.

    Raises:
        FinetuneError: No object in the training or in the test images.
        SkyprobeError: See `open_dataset`, `parse_variant` and `read_annotations`.
    """
    dataset = open_dataset(data)
    name, preprocessing = parse_variant(variant)
    check_preprocessing(preprocessing)
    split = divide_rows(stratified_table(dataset.table))
    train, valid, test = (
        read_annotations(dataset, rows, preprocessing, view) for rows in (split.train, split.valid, split.test)
    )
    if not train.has_objects or not test.has_objects:
        raise FinetuneError(
            "a detector needs objects in training and in test images",
            where=data,
            hint="Check which images the splits mark, and that their boxes are no crowd regions.",
        )
    return DetectionData(dataset, name, preprocessing, split, train, valid, test)
