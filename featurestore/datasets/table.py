"""Catalogues: tables with one row an image, in CSV, Parquet or FITS, as columns of text."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.datasets.files import check_match, fingerprints_of, is_fits, some_of
from featurestore.datasets.labels import as_text, encode_labels, normalise_split
from featurestore.errors import DatasetError
from featurestore.registry import unknown_name

TABLE_SUFFIXES = (".csv", ".parquet")
_FITS_NAMES = ("catalogue.fits", "catalog.fits")

_FILE_COLUMNS = ("file", "filename", "file_name", "path", "image")
_RA_COLUMNS = ("ra", "ra_deg", "raj2000", "_raj2000")
_DEC_COLUMNS = ("dec", "dec_deg", "dej2000", "decj2000", "_dej2000")
_LABEL_COLUMNS = ("label", "class")


def find_catalogue(folder: Path) -> Path | None:
    """The catalogue directly in a folder: a CSV or Parquet file, or ``catalogue.fits``; None if there is none.

    Raises:
        DatasetError: There are several.
    """
    candidates = sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() in TABLE_SUFFIXES or p.name in _FITS_NAMES)
    if len(candidates) > 1:
        names = some_of([path.name for path in candidates])
        raise DatasetError(f"several catalogues: {names}", where=folder, hint="Give the path of the one to use.")
    return candidates[0] if candidates else None


def require_catalogue(folder: Path) -> Path:
    """The catalogue directly in a folder.

    Raises:
        DatasetError: There is none, or there are several.
    """
    found = find_catalogue(folder)
    if found is None:
        raise DatasetError(
            "no catalogue in the folder",
            where=folder,
            hint="Add a CSV or Parquet file or catalogue.fits, or give the path of one.",
        )
    return found


class Catalogue:
    """A table of image files; values are text, and empty ones are None.

    Args:
        path: A CSV file with a header line, a Parquet file, or a FITS file whose first table is read.

    Raises:
        DatasetError: The file is no such table.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path):
            self.names, self._values = _open(path)

    def column(self, name: str) -> list[str | None]:
        """Values of one column.

        Raises:
            UnknownNameError: No such column.
        """
        if name not in self.names:
            raise unknown_name("catalogue column", name, self.names)
        with _reading(self.path):
            return [as_text(value) for value in self._values(name)]

    def find(self, *known: str) -> str | None:
        """The column called like the first of `known` that there is, upper or lower case."""
        lower = {name.lower(): name for name in reversed(self.names)}
        return next((lower[name] for name in known if name in lower), None)

    def label_columns(self) -> list[str]:
        """Columns called ``label`` or ``class``, or ``label_`` and something, in the order of the catalogue."""
        return [n for n in self.names if n.lower() in _LABEL_COLUMNS or n.lower().startswith("label_")]

    def fields(
        self, found: Mapping[str, int], file: str | None, labels: Sequence[str]
    ) -> tuple[dict[str, Any], tuple[str, ...]]:
        """What a sample table needs, and the path of each row.

        The columns ``split``, ``group``, ``id``, ``ra`` and ``dec`` (degrees) are used where they exist. Rows keep the
        order of the catalogue.

        Args:
            found: Relative path -> stamp of the images that exist.
            file: Column with file names; None: the first of file, filename, file_name, path and image.
            labels: Label columns, one scheme each; empty: see `label_columns`.

        Raises:
            LabelMismatchError: Rows without an image, or images without a row.
        """
        paths = self._match(self._file_column(file), found)
        schemes = {name: encode_labels(self.column(name)) for name in labels or self.label_columns()}
        split, ids = self.find("split"), self._sample_ids() or paths
        return {
            "sample_ids": ids,
            "labels": {name: codes for name, (codes, _) in schemes.items()},
            "classes": {name: classes for name, (_, classes) in schemes.items()},
            "splits": np.array([normalise_split(s) for s in self.column(split)] if split else [""] * len(paths)),
            "groups": self._groups(ids),
            "sky": self._sky(),
            "stamps": fingerprints_of(paths, found),
        }, paths

    def _file_column(self, given: str | None) -> str:
        column = given or self.find(*_FILE_COLUMNS)
        if column is None:
            raise DatasetError(
                f"no column names the image files; there are {some_of(self.names, 20)}",
                where=self.path,
                hint=f"Call it one of {', '.join(_FILE_COLUMNS)}.",
            )
        return column

    def _groups(self, ids: Sequence[str]) -> NDArray[np.str_] | None:
        """Groups; a row without one is a group of its own."""
        column = self.find("group")
        if column is None:
            return None
        return np.array([group or own for group, own in zip(self.column(column), ids, strict=True)])

    def _sky(self) -> NDArray[np.float64] | None:
        """Positions in degrees; NaN for a row whose values are no such angles, which grouping will count."""
        columns = [self.find(*names) for names in (_RA_COLUMNS, _DEC_COLUMNS)]
        if None in columns:
            return None
        sky = np.array([[_as_number(value) for value in self.column(name)] for name in columns if name]).T
        sky[(abs(sky) > (360, 90)).any(axis=1)] = np.nan
        return sky

    def _sample_ids(self) -> tuple[str, ...]:
        column = self.find("id")
        if column is None:
            return ()
        ids = self.column(column)
        if None in ids:
            raise DatasetError(
                f"row {ids.index(None) + 1} of the catalogue has no id", where=self.path, hint="Give every row an id."
            )
        return tuple(value for value in ids if value is not None)

    def _match(self, column: str, found: Mapping[str, int]) -> tuple[str, ...]:
        """Paths of the images, counted from the folder or from its folder ``images``."""
        paths = []
        for value in self.column(column):
            plain = PurePosixPath(value or "").as_posix()
            paths.append(plain if plain in found or f"images/{plain}" not in found else f"images/{plain}")
        missing = [path for path in paths if path not in found]
        check_match(missing, sorted(found.keys() - set(paths)), self.path)
        return tuple(paths)


def _as_number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return np.nan


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, csv.Error) as error:
        raise DatasetError(
            f"the catalogue cannot be read: {error}",
            where=path,
            hint="Give a CSV file with a header line, a Parquet file or a FITS table.",
        ) from error


_Table = tuple[list[str], Callable[[str], Sequence[Any]]]
"""Column names, and the values of a column."""


def _open(path: Path) -> _Table:
    if is_fits(path.name):
        return _open_fits(path)
    return _open_parquet(path) if path.suffix.lower() == ".parquet" else _open_csv(path)


def _open_csv(path: Path) -> _Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file, strict=True) if row]
    if not rows:
        raise ValueError("it is empty")
    header = rows.pop(0)
    if len(set(header)) < len(header):
        raise ValueError("two columns have the same name")
    uneven = next((number for number, row in enumerate(rows, 1) if len(row) != len(header)), None)
    if uneven:
        raise ValueError(f"row {uneven} has {len(rows[uneven - 1])} values for {len(header)} columns")
    return header, lambda name: [row[header.index(name)] for row in rows]


def _open_parquet(path: Path) -> _Table:
    from pyarrow import parquet

    return parquet.read_schema(path).names, lambda name: parquet.read_table(path, columns=[name])[name].to_pylist()


def _open_fits(path: Path) -> _Table:
    from astropy.table import Table

    with ignored_warnings():
        table = Table.read(path, format="fits")
    return list(table.colnames), lambda name: table[name].tolist()
