"""docs/store-format.md against the store: its examples run, its tables name what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from featurestore.store.entry import UNREADABLE

pytest.importorskip("xarray")
pytest.importorskip("tensorstore")

DOCUMENT = (Path(__file__).parents[3] / "docs" / "store-format.md").read_text(encoding="utf-8")


@pytest.fixture
def arrays(store, make_table, make_key, make_block):
    """Ten samples, one unreadable, one that the dataset has lost since."""
    table = make_table(10, boxes=True)
    store.put_dataset(table)
    arrays = store.create(
        "galaxies", "full-224", "efficientnet-lite0", make_key(), {"avgpool": (3,)}, {"weights": "hub"}
    )
    for block in range(3):
        data = make_block(
            table.sample_ids[block * 4 : block * 4 + 4], poolings=["cls"], unreadable=[1] if block == 1 else []
        )
        data.values["avgpool"] = data.values.pop("cls")
        arrays.write_block(block, data)
    store.put_dataset(table.take(np.delete(np.arange(10), 3)))
    return arrays


def test_the_examples_read_what_skyprobe_reads(arrays, store) -> None:
    names: dict[str, Any] = {"STORE": store.path, "KEY12": arrays.key.short}
    for code in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        exec(code, names)
    features = arrays.read("avgpool")
    assert names["features"].shape == (8, 3)
    np.testing.assert_array_equal(names["features"], features.values)
    np.testing.assert_array_equal(names["same_features"], features.values)
    assert tuple(names["sample_ids"]) == features.table.sample_ids
    np.testing.assert_array_equal(names["peaks"], features.table.labels["peaks"])


def test_rows_that_are_not_done_are_nan_for_any_reader(arrays, store) -> None:
    values = zarr.open_array(f"{store.path}/{arrays.path}/avgpool/values", mode="r")[:]
    assert np.flatnonzero(np.isnan(values).all(axis=1)).tolist() == [5]
    assert zarr.open_array(f"{store.path}/{arrays.path}/avgpool/state", mode="r")[5] == UNREADABLE


def test_the_tables_are_true(arrays, store) -> None:
    rows = re.findall(r"^\| (`.+?) \| \((.+?)\) \| (.+?) \| (?:(\w+) \| )?", DOCUMENT, re.MULTILINE)
    documented = {
        name: (shape.count(",") + (not shape.endswith(",")), kind.strip())
        for names, shape, kinds, _ in rows
        for name, kind in zip(
            re.findall(r"`(.+?)`", names), kinds.split(", ") * (1 if ", " in kinds else 9), strict=False
        )
    }
    text = {"text": "uint8", "float16 or float32": "float16"}
    columns = {"box/row", "box/label", "box/crowd", "box/xyxy", "group", "split", "sample_id", "present", "stamp"}
    groups = {
        "datasets/galaxies/columns": {*columns, "sample_hash", "label/peaks"},
        arrays.path: {"avgpool/values", "avgpool/state"},
    }
    groups[arrays.path] |= {"content", "stamp", "sample_hash", "reason", "check", "avgpool/check"}
    for path, expected in groups.items():
        members = dict(zarr.open_group(f"{store.path}/{path}", mode="r").members(max_depth=None))
        found = {
            name if path == arrays.path else name.rpartition("/")[0]: array
            for name, array in members.items()
            if isinstance(array, zarr.Array)
        }
        assert expected <= found.keys()
        for name, array in found.items():
            ndim, kind = documented[re.sub("^label/.*", "label/SCHEME", name).replace("avgpool", "POOLING")]
            assert (array.ndim, str(array.dtype)) == (ndim, text.get(kind, kind)), name
            assert [codec["name"] for codec in array.metadata.to_dict()["codecs"]] == ["bytes", "crc32c"]
            assert array.metadata.dimension_names is not None
            assert array.chunks[0] == (arrays.block_rows if path == arrays.path else array.shape[0])


def test_the_attributes_are_all_documented(arrays, store) -> None:
    store.put_cached("runs", "abc", {"x": np.arange(3)}, {})
    revision = store.storage.attributes("datasets/galaxies")["revision"]
    for path in ("", "datasets/galaxies", f"datasets/galaxies/{revision}", arrays.path, "derived/runs/abc"):
        for name in store.storage.attributes(path):
            assert f"`{name}`" in DOCUMENT
