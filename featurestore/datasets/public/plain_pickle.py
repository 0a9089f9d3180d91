"""Pickles of plain data: numbers, text, lists, tuples, dictionaries and numpy arrays, and nothing that could run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, BinaryIO

from featurestore.datasets.boundary import reading
from featurestore.datasets.source_file import open_file
from featurestore.errors import DatasetError

_ALLOWED = frozenset(
    {"_codecs.encode", "__builtin__.bytes", "numpy.ndarray", "numpy.dtype"}
    | {
        f"numpy.{core}.{name}"
        for core in ("core", "_core")  # numpy 1 and 2
        for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
    }
)
"""All that pickles of arrays, numpy scalars and bytes call; none of it runs anything or opens a file."""


def load_plain(path: Path) -> Any:
    """What a pickle of Python 2 or 3 holds, if it is plain data.

    A pickle is a program, which can call whatever it names. This reader stops at the first name that is not one of
    those by which numpy rebuilds arrays, before anything is called.

    Raises:
        DatasetError: The file names anything else, cannot be read, or is not a pickle.
    """
    with reading(path, "the pickle is damaged", hint="Download the file again."), open_file(path) as file:
        return _PlainUnpickler(file, path).load()


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: BinaryIO, path: Path) -> None:
        super().__init__(file, encoding="latin1")  # in which Python 2 wrote the bytes of arrays
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" in _ALLOWED:
            return super().find_class(module, name)
        raise DatasetError(
            f"the pickle names {module}.{name}, but only plain data and numpy arrays are read",
            where=self._path,
            hint="Do not open a file that you do not trust; else write its images as .npy or PNG files.",
        )
