"""Conformance suites: a package that adds a dataset reader or a backbone inherits its tests.

In a pytest file::

    class TestMyReader(DatasetConformance):
        @pytest.fixture
        def dataset(self):
            return MyReader(...)
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from featurestore.backbones.pooling import POOLINGS, pool
from featurestore.datasets import ImageDataset, Sample, open_dataset
from featurestore.errors import UnreadableImageError

if TYPE_CHECKING:
    import pytest
    from torch import Tensor

    from featurestore.backbones.base import Backbone
    from featurestore.backbones.pooling import TokenFeatures

_DTYPES = ("uint8", "uint16", "float32")
_SEED = 0


class DatasetConformance:
    """What every `ImageDataset` promises. Supply a fixture ``dataset``, small enough to be read several times.

    Rows that cannot be read are allowed; a dataset with a few makes the suite stronger.
    """

    def reopen(self, dataset: ImageDataset) -> ImageDataset:
        """The same dataset, opened anew; override it for a reader that was given options."""
        return open_dataset(dataset.table.source, name=dataset.table.name)

    def test_has_the_protocol(self, dataset: ImageDataset) -> None:
        """It offers table, decoder, length and read."""
        assert isinstance(dataset, ImageDataset), "it lacks a member of ImageDataset"
        assert dataset.decoder, "the decoder has no name"

    def test_table_describes_every_row(self, dataset: ImageDataset) -> None:
        """The table has as many rows as the dataset, with unique ids, and boxes that belong to them."""
        table = dataset.table
        assert len(table) == len(dataset) > 0, f"{len(table)} samples in the table, {len(dataset)} in the dataset"
        assert len(set(table.sample_ids)) == len(table), "sample ids are not unique"
        assert table.labels.keys() == table.classes.keys(), "label schemes and classes have different names"
        assert table.fingerprints.dtype == np.uint64, f"fingerprints are {table.fingerprints.dtype}"
        if table.boxes is not None:
            boxes = table.boxes
            assert len(boxes.row) == len(boxes.xyxy) == len(boxes.label) == len(boxes.crowd), (
                "box columns differ in length"
            )
            assert set(boxes.row.tolist()) <= set(range(len(table))), "boxes of rows that do not exist"
            assert set(boxes.label.tolist()) <= set(range(len(table.box_classes))), "boxes of classes without a name"
            assert (boxes.xyxy[:, 2:] > boxes.xyxy[:, :2]).all(), "boxes without area"

    def test_read_returns_an_image_and_a_digest(self, dataset: ImageDataset) -> None:
        """Images are (H, W) or (H, W, C) of a documented dtype; a row that cannot be read says why."""
        readable = 0
        for row in range(len(dataset)):
            sample = _try_read(dataset, row)
            if sample is None:
                continue
            readable += 1
            where = f"row {row}: {sample.image.shape} {sample.image.dtype}"
            assert sample.image.dtype.name in _DTYPES, where
            assert sample.image.dtype.isnative, where
            assert sample.image.ndim in (2, 3), where
            assert min(sample.image.shape) > 0, where
            assert len(sample.digest) == 16, f"row {row}: a digest of {len(sample.digest)} bytes"
        assert readable, "not one image can be read"

    def test_opening_reads_no_image(self, dataset: ImageDataset, monkeypatch: pytest.MonkeyPatch) -> None:
        """The table is made before any image is read."""
        rows: list[int] = []
        monkeypatch.setattr(type(dataset), "read", lambda _, row: rows.append(row))
        assert len(self.reopen(dataset).table) == len(dataset), "another number of samples"
        assert not rows, f"opening read the rows {rows[:5]}"

    def test_reading_twice_gives_the_same(self, dataset: ImageDataset) -> None:
        """Pixels and digests do not depend on when they are read."""
        rows = range(len(dataset))
        _assert_equal(
            [_try_read(dataset, row) for row in rows], [_try_read(dataset, row) for row in reversed(rows)][::-1]
        )

    def test_threads_read_what_one_reads(self, dataset: ImageDataset) -> None:
        """Four threads at once read the same as one alone."""
        rows = [row for row in range(len(dataset)) for _ in range(3)]
        serial = [_try_read(dataset, row) for row in rows]
        with ThreadPoolExecutor(4) as pool_of_threads:
            _assert_equal(serial, list(pool_of_threads.map(lambda row: _try_read(dataset, row), rows)))

    def test_reopening_gives_the_same(self, dataset: ImageDataset) -> None:
        """Ids, fingerprints, labels and digests survive a restart."""
        again = self.reopen(dataset)
        assert again.table.fingerprint == dataset.table.fingerprint, "ids or fingerprints changed"
        assert again.table.source == dataset.table.source, "the source changed"
        for scheme in dataset.table.schemes:
            assert again.table.label_digest(scheme) == dataset.table.label_digest(scheme), f"labels of {scheme} changed"
        _assert_equal([_try_read(dataset, 0)], [_try_read(again, 0)])

    def test_boxes_lie_in_their_images(self, dataset: ImageDataset) -> None:
        """Boxes use the pixels of the image as it is read; one that ends a pixel outside is tolerated."""
        boxes = dataset.table.boxes
        for row in [] if boxes is None else np.unique(boxes.row).tolist():
            sample = _try_read(dataset, row)
            if sample is not None and boxes is not None:
                height, width = sample.image.shape[:2]
                xyxy = boxes.xyxy[boxes.row == row]
                assert xyxy.min() >= -1, f"row {row}: a box begins at {xyxy.min()}"
                assert (xyxy[:, 2:] <= (width + 1, height + 1)).all(), (
                    f"row {row}: a box ends outside {width} x {height}"
                )


def _try_read(dataset: ImageDataset, row: int) -> Sample | None:
    try:
        return dataset.read(row)
    except UnreadableImageError:
        return None


def _assert_equal(expected: Sequence[Sample | None], actual: Sequence[Sample | None]) -> None:
    for number, (one, other) in enumerate(zip(expected, actual, strict=True)):
        assert (one is None) == (other is None), f"read {number} is readable only sometimes"
        if one is not None and other is not None:
            np.testing.assert_array_equal(one.image, other.image)
            assert one.digest == other.digest, f"read {number} has another digest"


class BackboneConformance:
    """What every loaded `Backbone` promises. Supply a fixture ``backbone``."""

    def images(self, backbone: Backbone, n: int = 3) -> Tensor:
        """Random images of the size that the weights want, float32 (n, 3, H, W)."""
        import torch

        side = backbone.spec.image_size
        return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(_SEED))

    def embed(self, backbone: Backbone, images: Tensor) -> dict[str, Tensor]:
        """Every pooling of these images."""
        import torch

        with torch.inference_mode():
            features = backbone.tokens(images)
            return {kind: pool(features, kind) for kind in backbone.spec.poolings}

    def test_is_frozen(self, backbone: Backbone) -> None:
        """Every module is in eval mode, and nothing needs a gradient."""
        training = [name for name, module in backbone.tokens.named_modules() if module.training]
        assert not training, f"modules in training mode: {training[:5]}"
        learning = [name for name, weight in backbone.tokens.named_parameters() if weight.requires_grad]
        assert not learning, f"weights that need a gradient: {learning[:5]}"

    def test_states_its_weights(self, backbone: Backbone) -> None:
        """The hash of the weights is a SHA-256, and their source is known."""
        assert len(bytes.fromhex(backbone.weights_hash)) == 32, f"no SHA-256: {backbone.weights_hash}"
        assert backbone.weights_source, "the source of the weights is empty"

    def test_every_pooling_gives_finite_vectors(self, backbone: Backbone) -> None:
        """Each pooling of the spec is known, and gives finite (B, D)."""
        assert backbone.spec.poolings, "no pooling"
        assert set(backbone.spec.poolings) <= set(POOLINGS), f"unknown among {backbone.spec.poolings}"
        for kind, values in self.embed(backbone, self.images(backbone)).items():
            assert values.ndim == 2, f"{kind} has shape {tuple(values.shape)}"
            assert len(values) == 3, f"{kind} has {len(values)} rows for 3 images"
            assert values.isfinite().all(), f"{kind} is not finite"

    def test_is_deterministic(self, backbone: Backbone) -> None:
        """The same batch twice gives the same bits."""
        images = self.images(backbone)
        first, second = self.embed(backbone, images), self.embed(backbone, images)
        for kind, values in first.items():
            assert values.equal(second[kind]), f"{kind} differs between two calls"

    def test_tells_images_apart(self, backbone: Backbone) -> None:
        """Different images have different embeddings."""
        for kind, values in self.embed(backbone, self.images(backbone)).items():
            assert not values[0].equal(values[1]), f"{kind} is the same for different images"

    def test_neighbours_in_a_batch_do_not_matter(self, backbone: Backbone) -> None:
        """An image has the same embedding alone as among others, to 1e-4 of its size."""
        images = self.images(backbone)
        alone, together = self.embed(backbone, images[:1]), self.embed(backbone, images)
        for kind, values in alone.items():
            worst = float((values[0] - together[kind][0]).abs().max())
            assert worst <= 1e-4 * max(1.0, float(values.abs().max())), f"{kind} moves by {worst}"

    def test_patches_form_the_grid(self, backbone: Backbone) -> None:
        """Patches are (B, h, w, D), with one patch for each `patch_size` pixels; what is not dense has none."""
        import torch

        images = self.images(backbone)
        with torch.inference_mode():
            features: TokenFeatures = backbone.tokens(images)
        if not backbone.spec.dense:
            assert features.patches is None, "there are patches, and the spec says that it is not dense"
            return
        shape: tuple[Any, ...] = tuple(features.grid.shape)
        assert len(shape) == 4, f"patches have shape {shape}"
        assert shape[0] == len(images), f"patches have shape {shape}"
        if backbone.spec.patch_size:
            side = images.shape[-1] // backbone.spec.patch_size
            assert shape[1:3] == (side, side), f"patches have shape {shape}, the grid is {side} x {side}"
