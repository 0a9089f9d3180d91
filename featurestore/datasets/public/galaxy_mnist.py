"""GalaxyMNIST: 10,000 galaxies of four shapes, in HDF5 files of 64 or 224 px."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.arrays import ArrayDataset, file_columns, row_names
from featurestore.datasets.boundary import reading
from featurestore.datasets.budget import check_bytes, check_size
from featurestore.datasets.naming import identity
from featurestore.datasets.source_file import check_regular
from featurestore.errors import EmptyDatasetError, LabelMismatchError, UnreadableImageError
from featurestore.samples import SampleTable

CLASSES = ("smooth_round", "smooth_cigar", "edge_on_disk", "unbarred_spiral")

_FILES = ("train_dataset.hdf5", "test_dataset.hdf5")
_SUFFIXES = (".hdf5", ".h5")
_NO_GALAXIES = "the file is not an HDF5 file of GalaxyMNIST"
_FORM = "It must hold images, uint8 (n, H, W, 3), and labels, integers (n,)."
_CHUNK_CACHE = 64 << 20
"""Bytes of decompressed chunks that HDF5 keeps: rows that share a chunk are then decompressed once."""


class GalaxyMNIST(ArrayDataset):
    """Images of the HDF5 files ``train_dataset.hdf5`` and ``test_dataset.hdf5``, one of them, or any file like them.

    A file holds ``images``, uint8 (n, H, W, 3), and ``labels``, integers (n,): 0 to 3, or -1 for an unlabelled galaxy.
    Sample ids are ``STEM/ROW``. A single file belongs to the split that its name begins with, if any.

    Args:
        path: Folder of the files, or one file.
        name: Name of the dataset; by default made from the path.

    Raises:
        EmptyDatasetError: No image, or no such file in the folder.
        DatasetError: A file is not an HDF5 file of this form.
        LabelMismatchError: Numbers of labels and images differ, or a label is none of the four.
    """

    def __init__(self, path: str, *, name: str | None = None) -> None:
        place = Path(path)
        files = [_ImageFile(file) for file in _find(place)]
        table = SampleTable(
            **identity("galaxy_mnist", place, name),
            **file_columns(files, place),
            sample_ids=tuple(name for file in files for name in row_names(file)),
            labels={"morphology": np.concatenate([file.labels for file in files])},
            classes={"morphology": CLASSES},
        )
        super().__init__(table, files)

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether it is an HDF5 file, or a folder with a file of GalaxyMNIST."""
        return path.suffix.lower() in _SUFFIXES if path.is_file() else any((path / name).is_file() for name in _FILES)


def _find(place: Path) -> list[Path]:
    files = [place] if place.is_file() else [place / name for name in _FILES if (place / name).is_file()]
    if not files:
        raise EmptyDatasetError(f"no {' or '.join(_FILES)}", where=place, hint="Give their folder, or one HDF5 file.")
    return files


class _ImageFile:
    """One HDF5 file, opened once; h5py lets one thread at a time into it."""

    def __init__(self, path: Path) -> None:
        import h5py

        self.path = path
        with reading(path, _NO_GALAXIES, hint=_FORM):
            check_regular(path)
            self._file = h5py.File(path, "r", rdcc_nbytes=_CHUNK_CACHE)
            self._images, labels = (_array(self._file, key) for key in ("images", "labels"))
            self._check(self._images, labels)
            self.labels = np.asarray(labels).astype(np.int64)
            if labels.dtype.kind == "u" and (self.labels < 0).any():
                raise ValueError("a label is beyond 64 bits")

    def __len__(self) -> int:
        return int(self._images.shape[0])

    def _check(self, images: Any, labels: Any) -> None:
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"images are {images.dtype} {images.shape}")
        if labels.dtype.kind not in "iu" or labels.ndim != 1:
            raise ValueError(f"labels are {labels.dtype} {labels.shape}")
        if len(labels) != len(images):
            raise LabelMismatchError(
                f"{len(labels)} labels for {len(images)} images", where=self.path, hint="Download the file again."
            )
        for found in (images, labels):
            check_bytes(math.prod(found.chunks or ()) * found.dtype.itemsize, self.path)  # HDF5 decompresses it whole
        check_bytes(labels.nbytes, self.path)

    def read(self, row: int) -> NDArray[Any]:
        where, again = f"{self.path}, row {row}", "Download the file again."
        check_size(self._images.shape[1:], 1, where)
        with reading(where, "the HDF5 file is damaged", hint=again, error=UnreadableImageError):
            return np.asarray(self._images[row])


def _array(file: Any, key: str) -> Any:
    """An array that lies in the file itself: HDF5 can also point at any other file of the machine.

    Raises:
        ValueError: Its values lie elsewhere.
        TypeError: It is not an array, or a link.
        KeyError: There is none.
    """
    import h5py

    if isinstance(file.get(key, getlink=True), h5py.ExternalLink | h5py.SoftLink):
        raise TypeError(f"{key} is a link to another place")
    found = file[key]
    if not isinstance(found, h5py.Dataset):
        raise TypeError(f"{key} is a group")
    if found.external or found.is_virtual:
        raise ValueError(f"the values of {key} lie in other files")
    return found
