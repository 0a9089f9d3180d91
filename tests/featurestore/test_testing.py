"""The conformance suites pass on what keeps the contracts, and fail on what breaks any one of them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from featurestore.backbones.base import Backbone, BackboneSpec
from featurestore.backbones.loading import load_backbone
from featurestore.datasets.base import Sample
from featurestore.datasets.decoding import digest_of_pixels
from featurestore.errors import UnreadableImageError
from featurestore.pooling import TokenFeatures
from featurestore.samples import Boxes, SampleTable
from featurestore.testing import BackboneConformance, DatasetConformance

BROKEN_ROW = 3


def make_table(n: int = 4, **changes: Any) -> SampleTable:
    columns: dict[str, Any] = {
        "name": "fake",
        "sample_ids": tuple(f"{row}" for row in range(n)),
        "labels": {"class": np.arange(n) % 2},
        "classes": {"class": ("even", "odd")},
        "splits": np.array(["train"] * n),
        "stamps": np.arange(n, dtype=np.uint64),
        "boxes": make_boxes(),
        "box_classes": ("source",),
    }
    return SampleTable(**(columns | changes))


def make_boxes(xyxy: tuple[float, ...] = (0, 1, 5, 4), row: int = 0, label: int = 0) -> Boxes:
    return Boxes(np.array([row]), np.array([xyxy], dtype=np.float32), np.array([label]), np.array([False]))


class Fake:
    """A dataset of three good images, one of each dtype, and one that cannot be read."""

    decoder = "array"

    def __init__(self, **changes: Any) -> None:
        self.table = make_table(**changes)
        self.calls = itertools.count()

    def __len__(self) -> int:
        return 4

    def read(self, row: int) -> Sample:
        return sample_of(self.image(row))

    def image(self, row: int) -> np.ndarray:
        if row == BROKEN_ROW:
            raise UnreadableImageError("it is broken", where=row, hint="Replace it.")
        shape, dtype = [((4, 5), "uint8"), ((4, 5), "uint16"), ((4, 5, 2), "float32")][row]
        return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def sample_of(image: np.ndarray) -> Sample:
    return Sample(image, digest_of_pixels(image))


class TestGoodDataset(DatasetConformance):
    @pytest.fixture
    def dataset(self) -> Fake:
        return Fake()

    def reopen(self, dataset: Any) -> Any:
        return Fake()


def broken_by(read: Callable[[Fake, int], Sample]) -> Fake:
    """A fake whose `read` is replaced."""
    return type("Broken", (Fake,), {"read": read})()


BAD_READS: dict[str, tuple[str, Callable[[Fake, int], Sample]]] = {
    "short digest": ("returns_an_image", lambda d, row: Sample(d.image(row), b"short")),
    "float64": ("returns_an_image", lambda d, row: sample_of(d.image(row).astype(np.float64))),
    "big-endian": ("returns_an_image", lambda d, row: sample_of(d.image(row).astype(">f4"))),
    "flat": ("returns_an_image", lambda d, row: sample_of(d.image(row).ravel())),
    "no pixels": ("returns_an_image", lambda d, row: sample_of(d.image(row)[:0])),
    "other pixels each time": ("reading_twice", lambda d, row: sample_of(d.image(row) + np.uint8(next(d.calls)))),
    "other digest each time": (
        "reading_twice",
        lambda d, row: Sample(d.image(row), next(d.calls).to_bytes(16, "little")),
    ),
    "readable only once": ("reading_twice", lambda d, row: sample_of(d.image(row if next(d.calls) < 4 else 3))),
    "other pixels in threads": (
        "threads_read",
        lambda d, row: sample_of(d.image(row) + np.uint8(threading.current_thread() is not threading.main_thread())),
    ),
    "other pixels when reopened": ("reopening", lambda d, row: sample_of(d.image(row) + np.uint8(next(d.calls)))),
}


def run(suite: Any, part: str, subject: Any) -> None:
    """Run the one test of the suite whose name contains `part`."""
    (name,) = (name for name in dir(suite) if name.startswith("test_") and part in name)
    getattr(suite, name)(subject)


@pytest.mark.parametrize("case", BAD_READS)
def test_a_dataset_that_reads_badly_fails(case: str) -> None:
    part, read = BAD_READS[case]
    dataset = broken_by(read)
    suite = DatasetConformance()
    suite.reopen = lambda dataset: dataset  # type: ignore[method-assign]
    with pytest.raises(AssertionError):
        run(suite, part, dataset)


def test_an_error_other_than_unreadable_fails() -> None:
    def read(dataset: Fake, row: int) -> Sample:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        run(DatasetConformance(), "returns_an_image", broken_by(read))


@pytest.mark.parametrize(
    ("part", "message", "changes"),
    [
        ("describes_every_row", "5 samples in the table, 4 in the dataset", {"n": 5}),
        ("describes_every_row", "stamps are int64", {"stamps": np.arange(4)}),
        ("describes_every_row", "different names", {"classes": {"class": ("even", "odd"), "other": ()}}),
        ("describes_every_row", "rows that do not exist", {"boxes": make_boxes(row=4)}),
        ("describes_every_row", "without a name", {"boxes": make_boxes(label=1)}),
        ("describes_every_row", "without area", {"boxes": make_boxes((2, 2, 2, 3))}),
        ("describes_every_row", "differ in length", {"boxes": replace(make_boxes(), crowd=np.array([], dtype=bool))}),
        ("boxes_lie", "a box begins at -2", {"boxes": make_boxes((-2, 0, 1, 1))}),
        ("boxes_lie", "ends outside 5 x 4", {"boxes": make_boxes((0, 0, 1, 6))}),
    ],
)
def test_a_dataset_with_a_bad_table_fails(part: str, message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=message):
        run(DatasetConformance(), part, Fake(**changes))


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("ids or stamps changed", {"stamps": np.arange(1, 5, dtype=np.uint64)}),
        ("the source changed", {"source": "fake:elsewhere"}),
        ("labels of class changed", {"labels": {"class": np.zeros(4, dtype=np.int64)}}),
    ],
)
def test_a_dataset_that_a_restart_changes_fails(message: str, changes: dict[str, Any]) -> None:
    suite = DatasetConformance()
    suite.reopen = lambda dataset: Fake(**changes)  # type: ignore[method-assign]
    with pytest.raises(AssertionError, match=message):
        run(suite, "reopening", Fake())


def test_a_dataset_without_a_decoder_fails() -> None:
    dataset = Fake()
    dataset.decoder = ""
    with pytest.raises(AssertionError, match="the decoder has no name"):
        run(DatasetConformance(), "has_the_protocol", dataset)
    with pytest.raises(AssertionError, match="lacks a member"):
        run(DatasetConformance(), "has_the_protocol", object())


SPEC = BackboneSpec("fake", "fake", "fake", poolings=("cls", "avg_patch", "map"), image_size=16, patch_size=4)


class Patches(nn.Module):
    """Patches of 4 x 4 pixels, each embedded by one fixed random matrix."""

    def __init__(self, change: Callable[[TokenFeatures], TokenFeatures] = lambda features: features) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, stride=4)
        self.change = change
        nn.init.normal_(self.embed.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(self.embed.bias)

    def forward(self, images: Tensor) -> TokenFeatures:
        grid = self.embed(images).permute(0, 2, 3, 1)
        return self.change(TokenFeatures(grid, cls=grid[:, 0, 0], pooled={"map": grid.amax(dim=(1, 2))}))


def fake_backbone(module: nn.Module | None = None, **changes: Any) -> Backbone:
    module = (module or Patches()).eval().requires_grad_(False)
    return Backbone(**({"spec": SPEC, "tokens": module, "weights_hash": "5a" * 32, "weights_source": "fake"} | changes))


class TestGoodBackbone(BackboneConformance):
    @pytest.fixture(params=["fake", "timm:test_vit", "timm:test_efficientnet"])
    def backbone(self, request: pytest.FixtureRequest) -> Backbone:
        return fake_backbone() if request.param == "fake" else load_backbone(request.param, "random:0")


BAD_FEATURES: dict[str, tuple[str, str, Callable[[TokenFeatures], TokenFeatures]]] = {
    "not finite": (
        "finite",
        "cls is not finite",
        lambda f: replace(f, cls=f.patches[:, 0, 0] / 0),
    ),
    "not a vector": ("finite", r"cls has shape \(3, 1, 6\)", lambda f: replace(f, cls=f.patches[:, 0, :1])),
    "a row is lost": ("finite", "cls has 2 rows for 3", lambda f: replace(f, cls=f.patches[1:, 0, 0])),
    "random": ("deterministic", "cls differs", lambda f: replace(f, cls=torch.randn(len(f.patches), 6))),
    "blind": ("tells_images_apart", "cls is the same", lambda f: replace(f, cls=torch.ones(len(f.patches), 6))),
    "depends on the batch": (
        "neighbours",
        "cls moves by",
        lambda f: replace(f, cls=f.patches[:, 0, 0] - f.patches[:, 0, 0].mean(dim=0)),
    ),
    "a row of patches is lost": ("grid", "the grid is 4 x 4", lambda f: replace(f, patches=f.patches[:, 1:])),
    "patches in a line": ("grid", "patches have shape", lambda f: replace(f, patches=f.patches.flatten(1, 2))),
}


@pytest.mark.parametrize("case", BAD_FEATURES)
def test_a_backbone_with_bad_features_fails(case: str) -> None:
    part, message, change = BAD_FEATURES[case]
    with pytest.raises(AssertionError, match=message):
        run(BackboneConformance(), part, fake_backbone(Patches(change)))


def test_a_backbone_that_trains_fails() -> None:
    backbone = fake_backbone()
    backbone.tokens.embed.train()
    with pytest.raises(AssertionError, match=r"modules in training mode: \['embed'\]"):
        run(BackboneConformance(), "is_frozen", backbone)
    backbone = fake_backbone()
    backbone.tokens.embed.bias.requires_grad_(True)
    with pytest.raises(AssertionError, match=r"weights that want a gradient: \['embed.bias'\]"):
        run(BackboneConformance(), "is_frozen", backbone)


@pytest.mark.parametrize(
    ("part", "message", "changes"),
    [
        ("finite", "no pooling", {"spec": replace(SPEC, poolings=())}),
        ("finite", "unknown among", {"spec": replace(SPEC, poolings=("cls", "median"))}),
        ("states_its_weights", "no SHA-256", {"weights_hash": "5a"}),
        ("states_its_weights", "source of the weights is empty", {"weights_source": ""}),
    ],
)
def test_a_backbone_that_states_nonsense_fails(part: str, message: str, changes: dict[str, Any]) -> None:
    with pytest.raises(AssertionError, match=message):
        run(BackboneConformance(), part, fake_backbone(**changes))
