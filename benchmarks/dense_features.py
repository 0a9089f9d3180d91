"""Frozen detection from the store: an epoch on stored dense features against one that forwards a ViT-S each time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.row import Row, time_pairs
from featurestore.datasets import open_dataset
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import FeatureStore, open_store
from featurestore.store.key import DENSE
from finetune.detection.data import prepare_data
from finetune.detection.detector import Architecture, Detector
from finetune.detection.evaluation import score_detections
from finetune.detection.features import StoredMaps
from finetune.detection.study import DetectionStudy, make_detector
from finetune.detection.targets import DetectionInputs
from finetune.detection.training import TrainingOptions, detect, train_detector

BACKBONE, WEIGHTS, SIDE = "timm:vit_small_patch16_224", "random:0", 224
VARIANT = f"resize={SIDE}"
N_TRAIN, N_TEST = 48, 16
EPOCHS = 12
"""Epochs after which both detectors are scored."""

GOAL = 3
"""How many times faster an epoch has to be."""


ARCHITECTURE = Architecture(channels=64, hidden=256, regions=64)
"""Narrow heads, as a CPU wants them: those of published width would take most of a step themselves."""

PAIRS = 5


def measure() -> Iterator[Row]:
    """An epoch of training each, images read from disk for the one that forwards; nothing is augmented."""
    with TemporaryDirectory() as place:
        write_squares(Path(place) / "squares", N_TRAIN, N_TEST)
        store = open_store(f"{place}/store.zarr", mode="a")
        options = ExtractionOptions(weights=WEIGHTS, poolings=(DENSE,))
        extract_features(open_dataset(f"coco:{place}/squares"), [BACKBONE], [VARIANT], store, options)
        yield _compare_epochs(place, store)


def write_squares(root: Path, n_train: int, n_test: int) -> None:
    """Grey images of noise with one to three bright squares, and their boxes in COCO's format."""
    rng = np.random.default_rng(0)
    root.mkdir()
    images, annotations = list[dict[str, object]](), list[dict[str, object]]()
    for number in range(n_train + n_test):
        pixels = rng.integers(0, 60, (SIDE, SIDE), dtype=np.uint8)
        for _ in range(int(rng.integers(1, 4))):
            side = int(rng.integers(16, 64))
            x, y = (int(corner) for corner in rng.integers(0, SIDE - side, 2))
            pixels[y : y + side, x : x + side] |= np.uint8(128)
            box = {"image_id": number, "category_id": 0, "bbox": [x, y, side, side], "iscrowd": 0}
            annotations.append({"id": len(annotations), **box})
        Image.fromarray(pixels).save(root / f"{number}.png")
        shape = {"height": SIDE, "width": SIDE, "split": "train" if number < n_train else "test"}
        images.append({"id": number, "file_name": f"{number}.png", **shape})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "square"}]}
    (root / "annotations.json").write_text(json.dumps(content))


def _compare_epochs(place: str, store: FeatureStore) -> Row:
    data = prepare_data(f"coco:{place}/squares", VARIANT, "all")
    views = data.views(store, BACKBONE)
    training = TrainingOptions(epochs=1, learning_rate=0.01, augmentation=None, architecture=ARCHITECTURE)
    study = DetectionStudy(place, (BACKBONE,), variant=VARIANT, weights=WEIGHTS, training=training)
    stored, frozen = (make_detector(study, data, BACKBONE, 0, given) for given in (views, None))
    inputs: tuple[DetectionInputs, DetectionInputs] = (
        StoredMaps(views, data.train.images),
        data.inputs(data.train.images),
    )
    times = time_pairs(
        lambda: train_detector(stored, inputs[0], training, 0),
        lambda: train_detector(frozen, inputs[1], training, 0),
        PAIRS,
    )
    left = EPOCHS - PAIRS - 1
    for detector, given in zip((stored, frozen), inputs, strict=True):
        train_detector(detector, given, replace(training, epochs=left), 0)
    tests: tuple[DetectionInputs, DetectionInputs] = (
        StoredMaps(views, data.test.images),
        data.inputs(data.test.images),
    )
    scores = [_score(detector, given) for detector, given in zip((stored, frozen), tests, strict=True)]
    return Row(
        what=f"epoch of detection heads on stored features of a ViT-S, {N_TRAIN} images",
        unit="s",
        ours=median(times.ours),
        ratio=times.speedup,
        goal=GOAL,
        peers={"forwarding the backbone": median(times.other)},
        note=f"{views.nbytes / (N_TRAIN + N_TEST) / 1e3:.0f} kB an image and view; mAP@50 after {EPOCHS} epochs "
        f"{scores[0]:.3f}, forwarding {scores[1]:.3f}; random weights, generated images; "
        f"{ARCHITECTURE.channels} channels, {ARCHITECTURE.hidden} hidden, {ARCHITECTURE.regions} regions",
    )


def _score(detector: Detector, inputs: DetectionInputs) -> float:
    return score_detections(inputs.annotated, detect(detector, inputs), ("square",)).map50
