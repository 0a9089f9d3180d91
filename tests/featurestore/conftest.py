"""A small store, tables and keys, embeddings that can be told from the sample id alone; images and models in memory."""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest

from featurestore.backbones import loading
from featurestore.backbones.base import Backbone
from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.engines import base as runtime
from featurestore.backbones.weights import parse_weights
from featurestore.datasets.base import Sample
from featurestore.errors import UnreadableImageError
from featurestore.preprocessing import to_unit
from featurestore.samples import Boxes, SampleTable, hash_ids
from featurestore.store import FeatureStore, open_store
from featurestore.store.entry import DONE, MISSING, UNREADABLE, Block, FeatureEntry
from featurestore.store.key import FeatureKey

BLOCK_ROWS = 4
SHAPES = {"cls": (3,), "avg_patch": (5,)}
PLACE = ("galaxies", "resize=224,crop=box:0.2", "timm:resnet18.a1_in1k")


def make_ids(n: int) -> tuple[str, ...]:
    return tuple(f"sky/é{row:03d}.png" for row in range(n))


def fingerprints_of(ids: Sequence[str], version: int = 0) -> np.ndarray:
    return np.array([zlib.crc32(name.encode()) + version for name in ids], dtype=np.uint64)


def embed(name: str, width: int, version: int = 0) -> np.ndarray:
    """Float16-exact features of one sample."""
    raw = hashlib.sha256(f"{name} {width} {version}".encode()).digest()
    return np.frombuffer(raw[:width], dtype=np.int8).astype(np.float32)


def content_of(name: str, version: int = 0) -> np.ndarray:
    return np.frombuffer(hashlib.md5(f"{name} {version}".encode()).digest(), dtype=np.uint8)


@pytest.fixture
def make_table() -> Callable[..., SampleTable]:
    def make(ids: int | Sequence[str] = 10, *, version: int = 0, boxes: bool = False, **changes: Any) -> SampleTable:
        ids = make_ids(ids) if isinstance(ids, int) else tuple(ids)
        n = len(ids)
        columns: dict[str, Any] = {
            "name": PLACE[0],
            "sample_ids": ids,
            "labels": {"peaks": np.arange(n) % 3 - 1, "has/bar?": np.arange(n) % 2},
            "classes": {"peaks": ("one", "two"), "has/bar?": ("no", "yes")},
            "splits": np.array(["train", "valid", "test", ""])[np.arange(n) % 4],
            "fingerprints": fingerprints_of(ids, version),
            "source": "/data/my galaxies",
            "notice": "for scholars",
        }
        if boxes:
            row = np.arange(n).repeat(2)
            xyxy = np.stack([row, row, row + 4, row + 5], axis=1).astype(np.float32)
            columns["boxes"] = Boxes(row, xyxy, row % 2, row % 5 == 0)
            columns["box_classes"] = ("core", "lobe")
            columns["groups"] = np.array([f"field {i // 2}" for i in range(n)], dtype=np.str_)
        return SampleTable(**(columns | changes))

    return make


@pytest.fixture
def make_key() -> Callable[..., FeatureKey]:
    def make(**changes: Any) -> FeatureKey:
        fields: dict[str, Any] = {
            "preprocessing": {"resize": 224, "crop": {"kind": "box", "margin": 0.2}},
            "backbone": PLACE[2],
            "model_id": "timm:resnet18.a1_in1k",
            "revision": "main",
            "weights_hash": "5a" * 32,
            "layer": "last",
            "engine": "torch",
            "precision": "fp32",
            "device": "cpu",
            "dtype": "float16",
        }
        return FeatureKey(**(fields | changes))

    return make


@pytest.fixture
def store_path(tmp_path: Path) -> str:
    return str(tmp_path / "store.zarr")


@pytest.fixture
def store(store_path: str) -> FeatureStore:
    return open_store(store_path, mode="a", block_rows=BLOCK_ROWS)


@pytest.fixture
def make_entry(make_key: Callable[..., FeatureKey]) -> Callable[..., FeatureEntry]:
    """Put a table, and make room for its features."""

    def make(
        store: FeatureStore, table: SampleTable, shapes: dict[str, tuple[int, ...]] | None = None, **key: Any
    ) -> FeatureEntry:
        store.put_dataset(table)
        provenance = {"weights": "hub", "versions": {"timm": "1.0"}}
        return store.create(*PLACE, make_key(**key), shapes or SHAPES, provenance)

    return make


@pytest.fixture
def make_block() -> Callable[..., Block]:
    def make(
        ids: Sequence[str | None],
        version: int = 0,
        poolings: Sequence[str] = tuple(SHAPES),
        unreadable: Sequence[int] = (),
    ) -> Block:
        """The block of these samples; None is a row that is not computed."""
        state = np.array([MISSING if name is None else DONE for name in ids], dtype=np.uint8)
        state[list(unreadable)] = UNREADABLE
        known = [name or make_ids(1)[0] for name in ids]
        return Block(
            values={p: np.array([embed(name, *SHAPES[p], version) for name in known]) for p in poolings},
            state=state,
            content=np.array([content_of(name, version) for name in known]),
            fingerprints=fingerprints_of(known, version),
            reasons={row: f"cannot decode {known[row]}" for row in unreadable},
            sample_hashes=hash_ids(known),
        )

    return make


@pytest.fixture
def fill(make_block: Callable[..., Block]) -> Callable[..., None]:
    """Write every block of some features, as an extraction would: only rows that are pending."""

    def write(arrays: FeatureEntry, table: SampleTable, rows: np.ndarray | None = None, **options: Any) -> None:
        rows = np.arange(len(table)) if rows is None else rows
        sample_in = dict(zip(rows.tolist(), table.sample_ids, strict=True))
        size = int(rows.max()) + 1
        fingerprints, present = np.zeros(size, np.uint64), np.zeros(size, bool)
        fingerprints[rows], present[rows] = table.fingerprints, True
        pending = arrays.pending(fingerprints, present, poolings=options.get("poolings"))
        for block in np.unique(np.flatnonzero(pending) // BLOCK_ROWS).tolist():
            own = range(block * BLOCK_ROWS, min(size, (block + 1) * BLOCK_ROWS))
            arrays.write_block(block, make_block([sample_in[r] if pending[r] else None for r in own], **options))

    return write


@pytest.fixture
def full(store: FeatureStore, make_table: Any, make_entry: Any, fill: Any) -> FeatureEntry:
    """Complete features of ten samples in `store`."""
    table = make_table(10)
    arrays: FeatureEntry = make_entry(store, table)
    fill(arrays, table)
    return arrays


@pytest.fixture(params=["flip", "zeros", "short", "empty"])
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Damage a chunk file, one way after the other."""

    def apply(path: Path) -> None:
        raw = path.read_bytes()
        flipped = bytes([raw[0] ^ 4]) + raw[1:]
        path.write_bytes({"flip": flipped, "zeros": bytes(len(raw)), "short": raw[:-3], "empty": b""}[request.param])

    return apply


@pytest.fixture
def expected() -> Callable[..., np.ndarray]:
    """The features that `fill` writes for these samples."""

    def of(ids: Sequence[str], pooling: str = "cls", version: int = 0) -> np.ndarray:
        return np.array([embed(name, *SHAPES[pooling], version) for name in ids]).reshape(len(ids), *SHAPES[pooling])

    return of


class MemoryDataset:
    """Images in memory, with a count of how often each was decoded."""

    decoder = "array"

    def __init__(self, images, *, ids=None, broken=(), boxes=None):
        self.images, self.broken, self.decoded = images, set(broken), Counter()
        self._lock = Lock()
        n = len(images)
        self.table = SampleTable(
            name="memory",
            sample_ids=tuple(ids or (f"s{row:03d}" for row in range(n))),
            labels={"class": np.arange(n) % 2},
            classes={"class": ("a", "b")},
            splits=np.array(["train"] * n),
            fingerprints=np.array(
                [int.from_bytes(digest_of(image)[:8], "little") for image in images], dtype=np.uint64
            ),
            boxes=boxes,
        )

    def __len__(self):
        return len(self.images)

    def read(self, row):
        with self._lock:
            self.decoded[self.table.sample_ids[row]] += 1
        if row in self.broken:
            raise UnreadableImageError("the file is truncated", where=row, hint="Copy it again.")
        return Sample(self.images[row], digest_of(self.images[row]))


class MeanForward:
    """Per-channel means and a constant: cheap, and telling which image came in; later poolings are multiples of it."""

    small, notes = False, {}

    def __init__(self, poolings, batch_size):
        self.shapes = dict.fromkeys(poolings, (4,))
        self.batch_size = batch_size

    def __call__(self, pixels):
        assert pixels.shape[0] == self.batch_size, "shapes are fixed"
        means = to_unit(pixels).mean(axis=(2, 3), dtype=float)
        values = np.concatenate([means, np.ones((len(pixels), 1))], axis=1).astype(np.float32)
        return {pooling: values * (number + 1) for number, pooling in enumerate(self.shapes)}


class FakeModels:
    """Stands in for the model libraries: names of what was loaded, and the hash of all weights."""

    def __init__(self):
        self.loaded = []
        self.weights_hash = "0" * 64

    def load(self, name, weights, image_size, trust_remote_code, n_channels):
        self.loaded.append(name)
        return Backbone(find_spec(name), None, self.weights_hash, str(parse_weights(weights)))

    def compile(self, backbone, poolings, runtime, batch_size, image_size, workers, *, eight_bit):
        return MeanForward(poolings, batch_size)


def digest_of(image):
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


@pytest.fixture
def make_images():
    def make(n=37, seed=0):
        return list(np.random.default_rng(seed).integers(0, 256, size=(n, 9, 11), dtype=np.uint8))

    return make


@pytest.fixture
def make_dataset(make_images):
    """``make_dataset(images, ids=..., broken=..., boxes=...)``; some random images unless given."""

    def make(images=None, **options):
        return MemoryDataset(make_images() if images is None else images, **options)

    return make


@pytest.fixture
def mean_forward():
    return MeanForward


@pytest.fixture
def models(monkeypatch):
    """Replaces loading and compiling of models."""
    fakes = FakeModels()
    monkeypatch.setattr(loading, "load_backbone", fakes.load)
    monkeypatch.setattr(runtime, "compile_forward", fakes.compile)
    return fakes


@pytest.fixture(scope="session")
def photo():
    """Draws a square picture of smooth structure with sharp edges, in three different bands, uint8 (side, side, 3)."""

    def draw(side):
        y, x = np.mgrid[:side, :side] / side
        bands = [np.sin(9 * x) * np.cos(7 * y), np.hypot(x - 0.5, y - 0.4) < 0.2, x * y]
        scaled = [(band - band.min()) / (band.max() - band.min()) for band in map(np.float64, bands)]
        return (np.stack(scaled, axis=-1) * 255).round().astype(np.uint8)

    return draw
