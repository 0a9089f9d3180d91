"""How format-1 and format-1.json were made, once, by the code of commit 3e1d752; kept to be read, not to be run.

The modules that it imports have moved since. `format-1.json` is what that code read back: the oracle of the tests.
"""

import hashlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np
from featurestore.feature_arrays import DONE, UNREADABLE, Block
from featurestore.key import FeatureKey
from probes.prediction import load_head, predict, save_head

from featurestore.samples import SampleTable
from featurestore.store import open_store
from probes.sweep import cached_sweep

N, BLOCK_ROWS = 22, 8
VARIANT, BACKBONE = "resize=224,crop=center:0.5", "timm:resnet18.a1_in1k"
SHAPES = {"avgpool": (4,), "patches": (2, 2, 3)}


def make_table():
    rows = np.arange(N)
    ids = tuple(f"sky/é{row:02d}.png" for row in rows)
    return SampleTable(
        name="galaxies",
        sample_ids=ids,
        labels={"kind": np.where(rows == 5, -1, rows % 2), "has/bar?": rows // 11},
        classes={"kind": ("spiral", "elliptical"), "has/bar?": ("no", "yes")},
        splits=np.array(["train"] * 14 + ["test"] * 8),
        stamps=np.array([zlib.crc32(name.encode()) for name in ids], np.uint64),
        groups=np.array([f"field {row // 2}" for row in rows]),
        sky=np.stack([rows * 10.0, rows - 10.0], axis=1),
        source="/data/my galaxies",
        notice="for scholars",
    )


def value(name, pooling, shape):
    raw = hashlib.sha256(f"{name} {pooling}".encode()).digest()
    return np.frombuffer(raw[: int(np.prod(shape))], np.int8).astype(np.float32).reshape(shape) / 16


def make_block(table, rows):
    names = [table.sample_ids[row] for row in rows]
    values = {pooling: np.stack([value(name, pooling, shape) for name in names]) for pooling, shape in SHAPES.items()}
    values["avgpool"] += (rows[:, None] % 2 * 8).astype(np.float32)
    content = np.stack([np.frombuffer(hashlib.md5(name.encode()).digest(), np.uint8) for name in names])
    state = np.where(rows == 3, UNREADABLE, DONE).astype(np.uint8)
    reasons = {int(row): "the file is cut off" for row in rows[rows == 3]}
    return Block(values, state, content, table.stamps[rows], reasons)


def main(folder):
    store, table = open_store(str(folder / "format-1"), mode="a", block_rows=BLOCK_ROWS), make_table()
    store.put_dataset(table)
    key = FeatureKey(
        {"resize": 224, "decoder": "pillow"}, BACKBONE, BACKBONE, "main", "5a" * 32, "last", "torch", "fp32", "cpu",
        "float16",
    )  # fmt: skip
    provenance = {"weights": "hub", "licence": "BSD-3-Clause", "versions": {"timm": "1.0"}}
    arrays = store.create(table.name, VARIANT, BACKBONE, key, SHAPES, provenance)
    for block in range(-(-N // BLOCK_ROWS)):
        arrays.write_block(block, make_block(table, np.arange(block * BLOCK_ROWS, min(N, (block + 1) * BLOCK_ROWS))))
    arrays.add_request("ab" * 32)
    features = store.load(table.name, VARIANT, BACKBONE, pooling="avgpool")
    runs = cached_sweep(store, features, ["linear", "whitened"], protocol="convex", fractions=[100], seeds=1)
    head = save_head(store, features, "whitened", protocol="convex")
    read = {
        "sha256": key.sha256,
        "sample_ids": features.table.sample_ids,
        "values": {pooling: arrays.read(pooling).values.tolist() for pooling in SHAPES},
        "unreadable": dict(features.unreadable),
        "runs": {run.head: run.probabilities.tolist() for run in runs},
        "head": head.digest,
        "predicted": predict(load_head(store, head.digest), features).to_dict("records"),
    }
    (folder / "format-1.json").write_text(json.dumps(read))


main(Path(sys.argv[1]))
