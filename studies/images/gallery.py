"""A gallery: random images of a dataset as a variant shows them, and the histogram of their raw pixel values.

The store keeps it, so that the figure of it can be drawn again where the images are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.preprocessing import Preprocessing, parse_variant
from featurestore.samples import UNLABELLED, SampleTable
from featurestore.store.key import digest
from studies.images.histogram import Histogram, count_values
from studies.images.sampling import NO_BOXES, Draw, boxes_of, draw_each_class, identify_samples, to_picture

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.store import FeatureStore

KIND = "gallery"
"""Kind of the galleries in a store."""

LARGEST_SIDE = 224
"""Pixels of a picture at most: more cannot be seen in print."""


@dataclass(frozen=True)
class Gallery:
    """Random images of one dataset.

    Attributes:
        dataset: Name of the dataset.
        variant: Name of the preprocessing variant.
        scheme: Label scheme; empty where the dataset has no labels.
        classes: Class names.
        n_images: Images of the whole dataset.
        seed: Seed of the sample.
        sample_ids: k ids, class by class.
        labels: int64 (k,); `UNLABELLED` where the dataset has no labels.
        pictures: uint8 (k, S, S, 3), what a backbone sees.
        raw: uint8 (S, S, 3), the first image from its lowest value (black) to its highest (white), unstretched.
        boxes: float32 (m, 4), annotated boxes ``x0, y0, x1, y1`` in shares of the picture's side; none where the
            variant crops or turns.
        box_rows: int64 (m,), picture of each box.
        histogram: Raw pixel values of all these images.
        unreadable: Sample id -> why it was passed over.
    """

    dataset: str
    variant: str
    scheme: str
    classes: tuple[str, ...]
    n_images: int
    seed: int
    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    pictures: NDArray[np.uint8]
    raw: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    box_rows: NDArray[np.int64]
    histogram: Histogram
    unreadable: Mapping[str, str]


def cached_gallery(
    store: FeatureStore,
    name: str,
    variant: str = "full-224",
    *,
    scheme: str | None = None,
    per_class: int = 2,
    seed: int = 0,
) -> Gallery:
    """The stored gallery of exactly these samples, or a new one that is stored.

    Args:
        store: A store that knows the dataset, opened for writing.
        name: Name of the dataset there; it is opened at its source when there is no gallery yet.
        variant: Name or spec of a preprocessing variant.
        scheme: Label scheme; None: the default one, or none where there are no labels.
        per_class: Images of each class; of a dataset without labels, six times as many.
        seed: Seed of the sample.

    Raises:
        MissingFeaturesError: The store does not know the dataset.
        DatasetError: The images are wanted, and are not at their source.
        EmptyDatasetError: None of the images can be shown.
    """
    table = store.dataset(name)
    chosen = table.scheme(scheme) if table.labels or scheme else ""
    identity = identify_samples(table, chosen) | {
        "variant": str(parse_variant(variant)[1]),
        "per_class": per_class,
        "seed": seed,
    }
    if (found := store.get_cached(KIND, digest(identity))) is not None:
        return _from_entry(found.arrays, found.attributes)
    from featurestore.datasets import open_dataset

    made = make_gallery(open_dataset(table.source), table, variant, scheme=chosen, per_class=per_class, seed=seed)
    store.put_cached(KIND, digest(identity), *_to_entry(made))
    return made


def make_gallery(
    dataset: ImageDataset,
    table: SampleTable,
    variant: str = "full-224",
    *,
    scheme: str = "",
    per_class: int = 2,
    seed: int = 0,
) -> Gallery:
    """Draw images at random and look at them.

    Args:
        dataset: Where images are read.
        table: The samples to draw from, by their ids.
        variant: Name or spec of a preprocessing variant.
        scheme: Label scheme; empty: labels play no part.
        per_class: See `cached_gallery`.
        seed: Seed of the sample. Images that cannot be read or preprocessed are passed over, and named.

    Raises:
        EmptyDatasetError: None of the images can be shown.
    """
    name, preprocessing = parse_variant(variant)
    preprocessing = replace(preprocessing, resize=min(preprocessing.resize, LARGEST_SIDE))
    draw = Draw(dataset, table, preprocessing, draw_each_class(table, scheme, per_class, seed))
    boxes, box_rows = _place_boxes(table, draw, preprocessing)
    unstretched = Preprocessing(resize=preprocessing.resize, channels=preprocessing.channels)
    return Gallery(
        dataset=table.name,
        variant=name,
        scheme=scheme,
        classes=table.classes[scheme] if scheme else (),
        n_images=len(table),
        seed=seed,
        sample_ids=tuple(table.sample_ids[row] for row in draw.rows),
        labels=table.labels[scheme][draw.rows] if scheme else np.full(len(draw.rows), UNLABELLED, dtype=np.int64),
        pictures=np.stack([to_picture(pixels) for pixels in draw.pixels]),
        raw=to_picture(unstretched.apply(draw.images[0], NO_BOXES)),
        boxes=boxes,
        box_rows=box_rows,
        histogram=count_values(draw.images),
        unreadable=draw.unreadable,
    )


def _place_boxes(
    table: SampleTable, draw: Draw, preprocessing: Preprocessing
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes as shares of the side, and the picture of each; none where they would have to be moved."""
    if preprocessing.crop != "none" or preprocessing.orientation:
        return NO_BOXES, np.empty(0, dtype=np.int64)
    sizes = [np.array([image.shape[1], image.shape[0]] * 2, dtype=np.float32) for image in draw.images]
    shares = [boxes_of(table, row) / size for row, size in zip(draw.rows, sizes, strict=True)]
    return np.concatenate(shares), np.repeat(np.arange(len(shares)), [len(part) for part in shares])


_ARRAYS = ("labels", "pictures", "raw", "boxes", "box_rows")


def _to_entry(gallery: Gallery) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    histogram = gallery.histogram
    arrays = {name: getattr(gallery, name) for name in _ARRAYS}
    arrays |= {"edges": histogram.edges, "counts": histogram.counts}
    plain = {field.name: getattr(gallery, field.name) for field in fields(gallery) if field.name not in _ARRAYS}
    plain["histogram"] = {name: getattr(histogram, name) for name in ("noise", "decades", "n_invalid")}
    return arrays, plain | {"classes": list(gallery.classes), "sample_ids": list(gallery.sample_ids)}


def _from_entry(arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> Gallery:
    given = dict(attributes) | {name: arrays[name] for name in _ARRAYS}
    given |= {name: tuple(attributes[name]) for name in ("classes", "sample_ids")}
    given["histogram"] = Histogram(arrays["edges"], arrays["counts"], **attributes["histogram"])
    return Gallery(**given)
