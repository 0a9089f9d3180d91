"""How large the objects are in the input of a model, and the input size or crop that this suggests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.base import ImageDataset
from featurestore.errors import UnreadableImageError
from featurestore.preprocessing import parse_crop
from featurestore.samples import SampleTable
from probes.statistics.feature_info import FeatureInfo
from studies.advice.advice import Advice
from studies.advice.evidence import Evidence

LEAST_PATCHES = 1.0
"""Patches that the 25th percentile of the objects should span. The study's detections rose by more than 10 % when its
images were enlarged until the mean source was as wide as a patch, and the 25th percentile nearly so: "sources unable to
occupy most of a patch were difficult to detect" (Lastufka et al. 2025, Section 4)."""

LARGEST_INPUT = 1024
"""Pixels of the largest side that is suggested: attention costs the fourth power of it."""

CLOSE_CROP = "box:0.2"
"""The crop that is suggested: around the largest box of each image, with a fifth of its side as margin."""

N_IMAGES = 200
"""Images with boxes that are decoded to learn their size, spread evenly over the dataset."""


@dataclass(frozen=True)
class ObjectSizes:
    """Boxes relative to their images.

    Attributes:
        share: float64 (k,), square root of the area of each box as a share of its image.
        n_images: Images that they are in.
        dataset: Name of the dataset.
    """

    share: NDArray[np.float64]
    n_images: int
    dataset: str

    def percentile(self, percent: float) -> float:
        """A percentile of the shares."""
        return float(np.percentile(self.share, percent))


def measure_objects(dataset: ImageDataset, n_images: int = N_IMAGES) -> ObjectSizes | None:
    """Sizes of the boxes of some images, which are decoded to learn theirs; None if there are no boxes.

    Args:
        dataset: Images with boxes; those that cannot be read are passed over.
        n_images: Images to decode at most.
    """
    table = dataset.table
    rows = _boxed_rows(table)
    chosen = rows[np.linspace(0, len(rows) - 1, min(n_images, len(rows))).astype(np.int64)]
    shares = [share for row in chosen if len(share := _shares(dataset, int(row)))]
    return ObjectSizes(np.concatenate(shares), len(shares), table.name) if shares else None


def advise_on_size(evidence: Evidence, objects: ObjectSizes | None) -> Iterator[Advice]:
    """For each patch size and preprocessing: how many patches an object spans, and what would make it span enough."""
    if objects is None:
        text = "The dataset has no boxes, or its images were not at hand: the size of the objects was not measured."
        yield Advice("object size", text)
        return
    seen = set()
    for info in evidence.infos:
        identity = info.patch, info.variant
        if info.patch and identity not in seen:
            seen.add(identity)
            yield _advise(evidence, objects, info, info.patch)


def _advise(evidence: Evidence, objects: ObjectSizes, info: FeatureInfo, patch: int) -> Advice:
    side, (kind, amount) = info.preprocessing["resize"], parse_crop(info.preprocessing["crop"])
    boxes = f"{objects.dataset}: {len(objects.share):,} boxes of {objects.n_images:,} images"
    rows = (f"{boxes}; {info.variant}, patch {patch}",)
    if kind == "box":
        span = side / (1 + 2 * amount) / patch
        text = f"{info.variant} crops to the largest box: its longer side spans up to {span:.1f} patches of {patch} px."
        return Advice("object size", text, rows)
    scale = side / (amount or 1.0)  # the whole image is a central crop of 1
    quarter, mean = objects.percentile(25) * scale / patch, float(objects.share.mean()) * scale / patch
    text = (
        f"At {info.variant} the mean object spans {mean:.1f} patches of {patch} px, the 25th percentile {quarter:.1f}"
    )
    if quarter >= LEAST_PATCHES:
        text += f": at least {LEAST_PATCHES:g}, so that no larger input is called for."
        return Advice("object size", text, rows)
    larger, crop = patch * ceil(side * LEAST_PATCHES / quarter / patch), f"crop={CLOSE_CROP}"
    sizes = [f"resize={larger}"] if larger <= LARGEST_INPUT else []
    text += (
        f", which should be {LEAST_PATCHES:g} or more: try an input of {larger} px"
        if sizes
        else (f", which should be {LEAST_PATCHES:g} or more, and no input up to {LARGEST_INPUT} px makes it so")
    )
    text += f"; {crop} brings the largest box closer."
    return Advice("object size", text, rows, evidence.command("extract", info.backbone, variants=[*sizes, crop]))


def _boxed_rows(table: SampleTable) -> NDArray[np.int64]:
    boxes = table.boxes
    return np.empty(0, dtype=np.int64) if boxes is None else np.unique(boxes.row[~boxes.crowd])


def _shares(dataset: ImageDataset, row: int) -> NDArray[np.float64]:
    """Square roots of the areas of the boxes of one image, each as a share of the image."""
    boxes = dataset.table.boxes
    if boxes is None:
        return np.empty(0)
    try:
        height, width = dataset.read(row).image.shape[:2]
    except UnreadableImageError:
        return np.empty(0)
    x0, y0, x1, y1 = boxes.of(row).astype(np.float64).T
    return np.asarray(np.sqrt((x1 - x0) * (y1 - y0) / (width * height)))
