from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.datasets.arrays import ArrayDataset, file_columns, row_names
from featurestore.errors import EmptyDatasetError
from featurestore.samples import SampleTable


class Part:
    """Images of 1 x 1 pixel, from a file with nothing in it."""

    def __init__(self, path: Path, values: list[int]) -> None:
        path.touch()
        self.path, self._values = path, values

    def __len__(self) -> int:
        return len(self._values)

    def read(self, row: int) -> np.ndarray:
        return np.array([[self._values[row]]], dtype=np.uint8)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 255), max_size=3), min_size=1, max_size=5).filter(any))
def test_parts_are_read_one_after_the_other(tmp_path: Path, values: list[list[int]]) -> None:
    """Empty files too, wherever they stand."""
    parts = [Part(tmp_path / f"{number}", own) for number, own in enumerate(values)]
    names = tuple(name for part in parts for name in row_names(part))
    table = SampleTable("toy", names, {}, {}, **file_columns(parts, tmp_path))
    dataset = ArrayDataset(table, parts)
    assert [int(dataset.read(row).image[0, 0]) for row in range(len(dataset))] == list(chain(*values))
    assert len(dataset) == len(table)


def test_every_row_has_the_split_and_the_stamp_of_its_file(tmp_path: Path) -> None:
    parts = [Part(tmp_path / name, [1, 2]) for name in ("train_a", "validation", "test_batch", "other")]
    columns = file_columns(parts, tmp_path)
    assert columns["splits"].tolist() == ["train", "train", "valid", "valid", "test", "test", "", ""]
    assert columns["fingerprints"].dtype == np.uint64
    assert (columns["fingerprints"][::2] == columns["fingerprints"][1::2]).all()
    (tmp_path / "other").write_text("changed")
    changed = file_columns(parts, tmp_path)["fingerprints"] != columns["fingerprints"]
    assert changed.tolist() == [False] * 6 + [True] * 2


def test_no_images(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match="the files hold no images"):
        file_columns([Part(tmp_path / "a", [])], tmp_path)
