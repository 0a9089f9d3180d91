"""Catalogues: tables with one row an image, in CSV, ECSV, Parquet or FITS, as columns of text."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.boundary import reading
from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.datasets.files import is_fits, some_of
from featurestore.datasets.labels import as_text, list_values
from featurestore.datasets.remote import Place, on_disk
from featurestore.datasets.source_file import check_regular
from featurestore.errors import DatasetError
from featurestore.registry import unknown_name

TABLE_SUFFIXES = (".csv", ".tsv", ".ecsv", ".parquet")
_FITS_NAMES = ("catalogue.fits", "catalog.fits")


def find_catalogue(folder: Place) -> Place | None:
    """The catalogue directly in a folder: one of `TABLE_SUFFIXES`, or ``catalogue.fits``; None if there is none.

    Raises:
        DatasetError: There are several.
    """
    files: Iterable[Place] = folder.glob("[!.]*")
    candidates = [path for path in files if path.suffix.lower() in TABLE_SUFFIXES or path.name in _FITS_NAMES]
    candidates.sort(key=str)
    if len(candidates) > 1:
        names = some_of([path.name for path in candidates])
        raise DatasetError(
            f"several catalogues: {names}", where=folder, hint="Give the path of the one to use, or ,catalogue=PATH."
        )
    return candidates[0] if candidates else None


def require_catalogue(folder: Place) -> Place:
    """The catalogue directly in a folder.

    Raises:
        DatasetError: There is none, or there are several.
    """
    found = find_catalogue(folder)
    if found is None:
        raise DatasetError(
            "no catalogue in the folder",
            where=folder,
            hint="Add a CSV, ECSV or Parquet file or catalogue.fits, or give the path of one.",
        )
    return found


class Catalogue:
    """A table of image files; values are text, and empty ones are None. Spaces around names and values do not count.

    Args:
        path: A CSV file with a header line (``.tsv``: tabs instead of commas), an ECSV or Parquet file, or a FITS file
            whose first table is read.

    Raises:
        DatasetError: The file is not such a table.
    """

    def __init__(self, path: Place) -> None:
        self.path = path
        with _reading(path):
            names, self._values, self._units = _open(on_disk(path))
            self.names = [name.strip() for name in names]
            twice = [name for name, count in Counter(self.names).items() if name and count > 1]
            if twice:
                raise ValueError(f"two columns have the same name: {some_of(twice)}")
        self._written = dict(zip(self.names, names, strict=True))

    def column(self, name: str) -> list[str | None]:
        """Values of one column.

        Raises:
            UnknownNameError: No such column.
            DatasetError: The column cannot be read, or holds several values a row.
        """
        if name not in self._written:
            raise unknown_name("catalogue column", name, self.names)
        with _reading(self.path):
            values = self._values(self._written[name])
            if any(isinstance(value, list | dict) for value in values):
                raise ValueError(f"the column {name!r} holds several values a row")
            return [as_text(value) for value in values]

    def degrees(self, name: str) -> NDArray[np.float64]:
        """Angles of one column, float64 (n,): in degrees, unless the file states another unit; NaN for other text.

        Raises:
            UnknownNameError: No such column.
            DatasetError: The column cannot be read, or its unit is not one of angles.
        """
        angles = np.array([_as_number(text) for text in self.column(name)], dtype=np.float64)
        unit = self._units.get(self._written[name])
        if unit is None or np.isnan(angles).all():
            return angles
        from astropy.units import Quantity

        with _reading(self.path):
            return np.asarray(Quantity(angles, unit).to_value("deg"), dtype=np.float64)

    def find(self, *known: str) -> str | None:
        """The column called like the first of `known` that there is, upper or lower case."""
        lower = {name.lower(): name for name in reversed(self.names)}
        return next((lower[name] for name in known if name in lower), None)


def _as_number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return np.nan


def _reading(path: Place) -> AbstractContextManager[None]:
    hint = "Give a CSV file with a header line, an ECSV or Parquet file, or a FITS table."
    return reading(path, "the catalogue cannot be read", hint=hint)


_Table = tuple[list[str], Callable[[str], Sequence[Any]], Mapping[str, Any]]
"""Column names as they are written, the values of a column, and units of astropy by columns that state one."""


def _open(path: Path) -> _Table:
    check_regular(path)
    suffix = path.suffix.lower()
    if is_fits(path.name) or suffix == ".ecsv":
        return _open_astropy(path, "ascii.ecsv" if suffix == ".ecsv" else "fits")
    return _open_parquet(path) if suffix == ".parquet" else _open_csv(path, "\t" if suffix == ".tsv" else ",")


def _open_csv(path: Path, delimiter: str) -> _Table:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = csv.reader(file, strict=True, delimiter=delimiter, skipinitialspace=delimiter != "\t")
        rows = [row for row in lines if any(row)]  # spreadsheets write rows of commas alone
    if not rows:
        raise ValueError("it is empty")
    header = rows.pop(0)
    uneven = next((number for number, row in enumerate(rows, 1) if len(row) != len(header)), None)
    if uneven:
        raise ValueError(f"row {uneven} has {len(rows[uneven - 1])} values for {len(header)} columns")
    return header, lambda name: [row[header.index(name)] for row in rows], {}


def _open_parquet(path: Path) -> _Table:
    from pyarrow import parquet

    names = parquet.read_schema(path).names
    return names, lambda name: list_values(parquet.read_table(path, columns=[name])[name]), {}


def _open_astropy(path: Path, kind: str) -> _Table:
    from astropy.table import Table

    with ignored_warnings():
        table = Table.read(path, format=kind)
    units = {name: table[name].unit for name in table.colnames if table[name].unit is not None}
    return list(table.colnames), lambda name: list_values(table[name]), units
