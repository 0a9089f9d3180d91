"""The suites pass on what keeps the promises (here, and for every reader), and fail on what breaks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from featurestore.backbones.base import Backbone, BackboneSpec
from featurestore.backbones.pooling import TokenFeatures
from featurestore.datasets.base import ImageDataset, Sample
from featurestore.errors import UnreadableImageError
from featurestore.samples import Boxes, SampleTable
from featurestore.testing import BackboneConformance, DatasetConformance

torch = pytest.importorskip("torch")


def boxes_at(*xyxy: float) -> Boxes:
    return Boxes(np.array([0]), np.array([xyxy], dtype=np.float32), np.array([0]), np.array([False]))


class FakeDataset:
    """Three rows, the last unreadable; every promise can be broken by an argument."""

    decoder = "array"

    def __init__(self, table: SampleTable, image: Callable[[int], Any] | None = None, length: int = 3) -> None:
        self.table, self._length = table, length
        self._image = image or (lambda row: np.full((4, 5), row, dtype=np.uint8))

    def __len__(self) -> int:
        return self._length

    def read(self, row: int) -> Sample:
        if row == 2:
            raise UnreadableImageError("damaged", where=row, hint="Replace it.")
        image = self._image(row)
        return Sample(image, image.tobytes()[:16])


_reads = count()


def changing(row: int) -> np.ndarray:
    """Other pixels at each call."""
    return np.full((4, 5), next(_reads) % 251, dtype=np.uint8)


def small(row: int) -> np.ndarray:
    """Fewer bytes than the 16 that the fake digest takes."""
    return np.zeros((3, 5), dtype=np.uint8)


class FakeSuite(DatasetConformance):
    def reopen(self, dataset: ImageDataset) -> ImageDataset:
        return FakeDataset(dataset.table)


class TestDatasetConformance(FakeSuite):
    @pytest.fixture
    def dataset(self, make_table: Callable[..., SampleTable]) -> FakeDataset:
        table = make_table(3, boxes=False)
        return FakeDataset(replace(table, boxes=boxes_at(0, 1, 5, 4), box_classes=("core",)))


@pytest.mark.parametrize(
    ("test", "broken"),
    [
        ("test_table_describes_every_row", {"length": 4}),
        ("test_read_returns_an_image_and_a_digest", {"image": lambda row: np.zeros((4, 5))}),
        ("test_read_returns_an_image_and_a_digest", {"image": lambda row: np.zeros((4, 5), ">f4")}),
        ("test_read_returns_an_image_and_a_digest", {"image": lambda row: np.zeros(40, np.uint8)}),
        ("test_read_returns_an_image_and_a_digest", {"image": small}),
        ("test_reading_twice_gives_the_same", {"image": changing}),
        ("test_threads_read_what_one_reads", {"image": changing}),
        ("test_reopening_gives_the_same", {"image": lambda row: np.full((4, 5), 9, np.uint8)}),
    ],
)
def test_a_broken_dataset_fails(make_table: Callable[..., SampleTable], test: str, broken: dict[str, Any]) -> None:
    with pytest.raises(AssertionError):
        getattr(FakeSuite(), test)(FakeDataset(make_table(3), **broken))


@pytest.mark.parametrize(
    ("test", "xyxy"),
    [
        ("test_boxes_lie_in_their_images", (0, 0, 5, 6)),
        ("test_boxes_lie_in_their_images", (0, 0, 7, 4)),
        ("test_boxes_lie_in_their_images", (-2, 0, 1, 1)),
        ("test_table_describes_every_row", (3, 3, 3, 4)),
    ],
)
def test_wrong_boxes_fail(make_table: Callable[..., SampleTable], test: str, xyxy: tuple[float, ...]) -> None:
    dataset = FakeDataset(replace(make_table(3), boxes=boxes_at(*xyxy), box_classes=("core",)))
    with pytest.raises(AssertionError, match=r"box"):
        getattr(FakeSuite(), test)(dataset)


def test_another_error_is_no_unreadable_image(make_table: Callable[..., SampleTable]) -> None:
    def fail(row: int) -> Any:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        FakeSuite().test_read_returns_an_image_and_a_digest(FakeDataset(make_table(3), fail))


class FakeTokens(torch.nn.Module):
    """A linear patch embedding; `flaw` names the promise that it breaks."""

    def __init__(self, flaw: str = "") -> None:
        super().__init__()
        self.flaw, self.calls = flaw, 0
        self.embed = torch.nn.Conv2d(3, 6, kernel_size=4, stride=4)
        torch.nn.init.constant_(self.embed.weight, 0.0 if flaw == "constant" else 0.01)

    def forward(self, images: Any) -> TokenFeatures:
        self.calls += 1
        patches = self.embed(images).permute(0, 2, 3, 1)
        if self.flaw == "batch":
            patches = patches - patches.mean(dim=0, keepdim=True)
        if self.flaw == "random":
            patches = patches + self.calls
        if self.flaw == "nan":
            patches = patches * float("nan")
        if self.flaw == "grid":
            patches = patches[:, 1:]
        if self.flaw == "flat":
            patches = patches.flatten(1, 2)[:, None]
        return TokenFeatures(patches, cls=patches[:, 0, 0])


def backbone_of(flaw: str = "", **changes: Any) -> Backbone:
    spec = BackboneSpec("fake", "fake", "fake", ("cls", "avg_patch", "cls_avg_patch"), image_size=16, patch_size=4)
    tokens = FakeTokens(flaw).eval().requires_grad_(requires_grad=False)
    return replace(Backbone(spec, tokens, "0a" * 32, "random:0"), **changes)


class TestBackboneConformance(BackboneConformance):
    @pytest.fixture
    def backbone(self) -> Backbone:
        return backbone_of()


@pytest.mark.parametrize(
    ("test", "flaw"),
    [
        ("test_every_pooling_gives_finite_vectors", "nan"),
        ("test_is_deterministic", "random"),
        ("test_tells_images_apart", "constant"),
        ("test_neighbours_in_a_batch_do_not_matter", "batch"),
        ("test_patches_form_the_grid", "grid"),
        ("test_patches_form_the_grid", "flat"),
    ],
)
def test_a_broken_backbone_fails(test: str, flaw: str) -> None:
    getattr(BackboneConformance(), test)(backbone_of())
    with pytest.raises(AssertionError):
        getattr(BackboneConformance(), test)(backbone_of(flaw))


def test_a_backbone_that_learns_fails() -> None:
    for tokens in (FakeTokens().requires_grad_(requires_grad=False), FakeTokens().eval()):
        with pytest.raises(AssertionError, match=r"training mode|need a gradient"):
            BackboneConformance().test_is_frozen(backbone_of(tokens=tokens))


def test_weights_without_a_hash_fail() -> None:
    with pytest.raises(AssertionError, match="no SHA-256"):
        BackboneConformance().test_states_its_weights(backbone_of(weights_hash="0a"))
    with pytest.raises(AssertionError, match="source"):
        BackboneConformance().test_states_its_weights(backbone_of(weights_source=""))


def test_a_dataset_without_a_readable_image_fails(make_table: Callable[..., SampleTable]) -> None:
    def fail(row: int) -> Any:
        raise UnreadableImageError("damaged", where=row, hint="Replace it.")

    with pytest.raises(AssertionError, match="not one image can be read"):
        FakeSuite().test_read_returns_an_image_and_a_digest(FakeDataset(make_table(3), fail))


def test_a_dataset_that_reads_images_when_opened_fails(
    make_table: Callable[..., SampleTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    class EagerSuite(DatasetConformance):
        def reopen(self, dataset: ImageDataset) -> ImageDataset:
            dataset.read(1)
            return dataset

    with pytest.raises(AssertionError, match=r"opening read the rows \[1\]"):
        EagerSuite().test_opening_reads_no_image(FakeDataset(make_table(3)), monkeypatch)


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("ids or fingerprints changed", {"fingerprints": np.arange(3, dtype=np.uint64)}),
        ("the source changed", {"source": "elsewhere"}),
        ("labels of peaks changed", {"labels": {"peaks": np.zeros(3, np.int64), "has/bar?": np.arange(3) % 2}}),
    ],
)
def test_a_dataset_that_a_restart_changes_fails(
    make_table: Callable[..., SampleTable], message: str, changes: dict[str, Any]
) -> None:
    class OtherSuite(DatasetConformance):
        def reopen(self, dataset: ImageDataset) -> ImageDataset:
            return FakeDataset(replace(dataset.table, **changes))

    with pytest.raises(AssertionError, match=message):
        OtherSuite().test_reopening_gives_the_same(FakeDataset(make_table(3)))


@pytest.mark.parametrize(("poolings", "message"), [((), "no pooling"), (("cls", "median"), "unknown among")])
def test_unknown_poolings_fail(poolings: tuple[str, ...], message: str) -> None:
    backbone = backbone_of()
    with pytest.raises(AssertionError, match=message):
        BackboneConformance().test_every_pooling_gives_finite_vectors(
            replace(backbone, spec=replace(backbone.spec, poolings=poolings))
        )


def test_a_digest_that_changes_fails(make_table: Callable[..., SampleTable]) -> None:
    class Restless(FakeDataset):
        def read(self, row: int) -> Sample:
            return super().read(row)._replace(digest=next(_reads).to_bytes(16, "little"))

    with pytest.raises(AssertionError, match="has another digest"):
        FakeSuite().test_reading_twice_gives_the_same(Restless(make_table(3)))
