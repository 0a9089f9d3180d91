from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet

from featurestore.errors import MissingDependencyError, StoreWriteError, UsageError
from featurestore.store.export import export


@pytest.fixture
def features(store, make_table, make_entry, fill):
    table = make_table(10, boxes=True)
    arrays = make_entry(store, table)
    fill(arrays, table, unreadable=[1])
    return arrays.read("cls")


def check_metadata(text: str, features) -> None:
    metadata = json.loads(text)
    assert metadata["key"] == features.key.to_dict()
    assert metadata["provenance"]["weights"] == "hub"
    assert metadata["sha256"] == features.key.sha256
    assert (metadata["dataset"], metadata["pooling"], metadata["notice"]) == ("galaxies", "cls", "for scholars")
    assert metadata["unreadable"] == dict(features.unreadable)


def label_names(features) -> list[str]:
    return [("one", "two", "")[label] for label in features.table.labels["peaks"]]


def test_parquet(features, tmp_path: Path) -> None:
    path = export(features, tmp_path / "deep" / "x.parquet")
    frame = pd.read_parquet(path)
    columns = ["sample_id", "split", "label_peaks", "label_has/bar?", "group", "f0000", "f0001", "f0002"]
    assert list(frame.columns) == columns
    np.testing.assert_array_equal(frame[columns[5:]].to_numpy(), features.values)
    assert frame["f0000"].dtype == np.float32
    assert frame["sample_id"].tolist() == list(features.table.sample_ids)
    assert frame["split"].tolist() == features.table.splits.tolist()
    assert frame["label_peaks"].tolist() == label_names(features)
    assert frame["group"].tolist() == features.table.groups.tolist()
    check_metadata(parquet.read_schema(path).metadata[b"skyprobe"].decode(), features)


def test_npz(features, tmp_path: Path) -> None:
    with np.load(export(features, tmp_path / "x.npz"), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["values"], features.values)
        assert arrays["sample_id"].tolist() == list(features.table.sample_ids)
        assert arrays["label_peaks"].tolist() == label_names(features)
        check_metadata(str(arrays["skyprobe"]), features)


def test_anndata(features, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    read = anndata.read_h5ad(export(features, tmp_path / "x.h5ad"))
    np.testing.assert_array_equal(read.X, features.values)
    assert read.obs_names.tolist() == list(features.table.sample_ids)
    assert read.obs.columns.tolist() == ["split", "label_peaks", "label_has%2Fbar%3F", "group"]
    assert read.obs["label_peaks"].tolist() == label_names(features)
    assert read.var_names.tolist() == ["f0000", "f0001", "f0002"]
    check_metadata(read.uns["skyprobe"], features)


def test_anndata_that_is_not_installed(features, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'skyprobe\[anndata\]'"):
        export(features, tmp_path / "x.h5ad")


def test_the_format_may_be_named(features, tmp_path: Path) -> None:
    assert len(pd.read_parquet(export(features, tmp_path / "x.bin", "parquet"))) == len(features.values)
    with pytest.raises(UsageError, match=r"unknown export format '.csv'.*parquet, npz, anndata"):
        export(features, tmp_path / "x.csv")
    with pytest.raises(UsageError, match="unknown export format 'xls'"):
        export(features, tmp_path / "x.npz", "xls")


def test_a_file_is_whole_or_absent(features, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "x.npz"
    path.write_text("old")

    def fail(file, **arrays: object) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(StoreWriteError, match=r"cannot be written: No space left on device.*free space"):
        export(features, path)
    assert path.read_text() == "old"
    assert [file for file in tmp_path.iterdir() if file.is_file()] == [path]
