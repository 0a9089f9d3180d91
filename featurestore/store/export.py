"""Export: one feature matrix with ids, splits, labels and its identity, in a format that other tools read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import MissingDependencyError, UsageError
from featurestore.files import write_atomically
from featurestore.samples import SampleTable
from featurestore.store.features import FeatureSet
from featurestore.store.layout.names import escape

FORMATS = {".parquet": "parquet", ".npz": "npz", ".h5ad": "anndata"}
"""Format by suffix of the file."""


def export(
    features: FeatureSet,
    path: str | Path,
    format: str | None = None,  # noqa: A002
    *,
    columns: Mapping[str, NDArray[np.str_]] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write features to a file, which is either whole or absent.

    All formats hold ``sample_id``, ``split``, one ``label_SCHEME`` of class names for each label scheme (empty where
    unlabelled), ``group`` if there are groups, and JSON metadata named ``skyprobe`` with key and provenance.

    Args:
        features: What to write.
        path: File to write or replace.
        format: ``parquet`` (columns f0000, f0001, ...), ``npz`` (matrix ``values``) or ``anndata`` (``X``; names of
            columns escaped as in the store, because HDF5 allows no slash); by the suffix of `path` for None.
        columns: More columns of text (n,), by name.
        notes: More of the metadata.

    Raises:
        UsageError: No such format, or dense features in a format of tables.
        MissingDependencyError: AnnData is not installed.
        StoreWriteError: The file cannot be written.
    """
    path = Path(path)
    writer = _WRITERS.get(format or FORMATS.get(path.suffix, ""))
    if writer is None:
        raise UsageError(
            f"unknown export format {format or path.suffix!r}",
            where=path,
            hint=f"Use one of {', '.join(_WRITERS)}, or a suffix out of {', '.join(FORMATS)}.",
        )
    if features.values.ndim > 2 and writer is not _write_npz:
        raise UsageError("dense features are not a table", where=path, hint="Export them as npz.")
    contents = _Contents(features, _columns(features.table) | dict(columns or {}), _metadata(features, notes or {}))
    return write_atomically(path, lambda part: writer(contents, part))


class _Contents(NamedTuple):
    """What a file holds: features, columns of text, and JSON."""

    features: FeatureSet
    columns: Mapping[str, NDArray[Any]]
    metadata: str


def _write_parquet(contents: _Contents, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns = {name: pa.array(values.tolist(), pa.string()) for name, values in contents.columns.items()}
    columns |= {f"f{index:04d}": pa.array(column) for index, column in enumerate(contents.features.values.T)}
    parquet.write_table(pa.table(columns, metadata={"skyprobe": contents.metadata}), path)


def _write_npz(contents: _Contents, path: Path) -> None:
    columns = {name: values.astype(np.str_) for name, values in contents.columns.items()}
    with path.open("wb") as file:
        np.savez(
            file, allow_pickle=False, values=contents.features.values, skyprobe=np.array(contents.metadata), **columns
        )


def _write_anndata(contents: _Contents, path: Path) -> None:
    try:
        import anndata
    except ImportError as error:
        raise MissingDependencyError(
            "AnnData is not installed", where=path, hint="Install it: pip install 'skyprobe[anndata]'."
        ) from error
    import pandas as pd

    columns = contents.columns
    obs = pd.DataFrame(
        {escape(name): pd.Categorical(values) for name, values in columns.items() if name != "sample_id"},
        index=pd.Index(columns["sample_id"].astype(str), name="sample_id"),
    )
    matrix = contents.features.values  # noqa: PD011  (an array, not a frame)
    var = pd.DataFrame(index=[f"f{index:04d}" for index in range(matrix.shape[1])])
    anndata.AnnData(matrix, obs=obs, var=var, uns={"skyprobe": contents.metadata}).write_h5ad(path)


_WRITERS: dict[str, Callable[[_Contents, Path], None]] = {
    "parquet": _write_parquet,
    "npz": _write_npz,
    "anndata": _write_anndata,
}


def _columns(table: SampleTable) -> dict[str, NDArray[Any]]:
    """Columns of text; a label is its class name, empty where there is none."""
    columns = {"sample_id": np.array(table.sample_ids, dtype=object), "split": table.splits.astype(object)}
    for scheme, labels in table.labels.items():
        names = np.array([*table.classes[scheme], ""], dtype=object)
        columns[f"label_{scheme}"] = names[labels]  # UNLABELLED, -1, is the last
    if table.groups is not None:
        columns["group"] = table.groups.astype(object)
    return columns


def _metadata(features: FeatureSet, notes: Mapping[str, str]) -> str:
    return json.dumps(
        {
            "dataset": features.table.name,
            "variant": features.variant,
            "backbone": features.backbone,
            "pooling": features.pooling,
            "key": features.key.to_dict(),
            "sha256": features.key.sha256,
            "provenance": dict(features.provenance),
            "unreadable": dict(features.unreadable),
            "notice": features.table.notice,
            **notes,
        }
    )
