"""Arrays of images in .npy files, mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.arrays import ArrayDataset, file_columns, row_names
from featurestore.datasets.boundary import reading
from featurestore.datasets.budget import check_size
from featurestore.datasets.decoding.arrays import KEPT, check_channels, without_losses
from featurestore.datasets.labels import encode_labels, list_values, scheme_fields
from featurestore.datasets.naming import identity
from featurestore.datasets.source_file import check_regular
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError
from featurestore.samples import SampleTable

_IMAGES, _LABELS = "images.npy", "labels.npy"
_AS_FLOAT = ("int8", "int16", "float16", "float64")


class NumpyArrays(ArrayDataset):
    """Images of ``images.npy`` and labels of ``labels.npy``, or of ``train_images.npy``, ``train_labels.npy`` ...

    Images are (n, H, W) or (n, H, W, C), or (n, C, H, W) by choice, first row on top: uint8, uint16 or float32; int8,
    int16, float16 and float64 become float32. Labels are (n,), numbers or text, one label scheme ``class``; see
    `featurestore.datasets.labels.unify` for missing labels; an absent file gives none. A file whose name begins with
    the name of a split belongs to that one. Sample ids are ``STEM/ROW``. Objects (pickles) in the files are refused.

    Args:
        path: Folder of the files.
        name: Name of the dataset; by default made from the path.
        channels: ``last`` for (n, H, W, C) or ``first`` for (n, C, H, W), as torch has them; None: last, unless the
            shape looks like the other.
        keep: Texts that are labels although they look like missing values, such as NA.

    Raises:
        EmptyDatasetError: No such file, or no image in them.
        DatasetError: A file is not an array of this form, or the place of its bands is not certain.
        LabelMismatchError: Numbers of labels and images differ.
    """

    def __init__(
        self, path: str, *, name: str | None = None, channels: str | None = None, keep: str | Sequence[str] = ()
    ) -> None:
        check_channels(channels)
        root = Path(path)
        files = [_ImageFile(file, channels) for file in _find(root)]
        columns = file_columns(files, root)
        labels = [label for file in files for label in file.labels]
        known = any(label is not None for label in labels)
        table = SampleTable(
            **identity("npy", root, name),
            **columns,
            sample_ids=tuple(name for file in files for name in row_names(file)),
            **scheme_fields({"class": encode_labels(labels, keep)} if known else {}),
        )
        super().__init__(table, files)

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether the folder holds arrays of images."""
        return path.is_dir() and any(path.glob(f"*{_IMAGES}"))


def _find(root: Path) -> list[Path]:
    files = sorted(root.glob(f"*{_IMAGES}"))
    if not files:
        raise EmptyDatasetError(f"no {_IMAGES}", where=root, hint=f"Give a folder with {_IMAGES} and {_LABELS}.")
    return files


class _ImageFile:
    """One file of images, mapped into memory, and the labels beside it."""

    def __init__(self, path: Path, channels: str | None) -> None:
        self.path = path
        images = _load(path)
        if images.ndim not in (3, 4) or images.dtype.name not in (*KEPT, *_AS_FLOAT) or 0 in images.shape[1:]:
            raise DatasetError(
                f"images are {images.dtype} {images.shape}",
                where=path,
                hint=f"Write (n, H, W) or (n, H, W, C) of {', '.join((*KEPT, *_AS_FLOAT))}.",
            )
        self._images = _with_bands_last(images, channels, path)
        self.labels = self._read_labels(path.with_name(path.name.removesuffix(_IMAGES) + _LABELS))

    def __len__(self) -> int:
        return len(self._images)

    def _read_labels(self, path: Path) -> list[object]:
        if not path.is_file():
            return [None] * len(self)
        labels = _load(path)
        if labels.dtype.kind not in "iufU" or labels.ndim != 1:
            raise DatasetError(
                f"labels are {labels.dtype} {labels.shape}", where=path, hint="Write (n,), numbers or text."
            )
        if len(labels) != len(self):
            raise LabelMismatchError(
                f"{len(labels)} labels for {len(self)} images", where=path, hint="Give exactly one label an image."
            )
        return list_values(labels)

    def read(self, row: int) -> NDArray[Any]:
        where, image = f"{self.path}, row {row}", self._images[row]
        check_size(image.shape, image.dtype.itemsize, where)
        return without_losses(np.array(image, order="C"), where)


def _with_bands_last(images: NDArray[Any], channels: str | None, path: Path) -> NDArray[Any]:
    """A view (n, H, W) or (n, H, W, C).

    Raises:
        DatasetError: The bands may as well come first: the axis after n is the shortest, or the other two are equal.
    """
    if images.ndim == 3 or channels == "last":
        return images
    if channels == "first":
        return np.moveaxis(images, 1, -1)
    first, *others = images.shape[1:]
    if first < min(others) or (others[0] == others[1] != first):
        source = f"npy:{path.parent}"
        raise DatasetError(
            f"images are {images.dtype} {images.shape}, whose bands seem to be the axis after n",
            where=path,
            hint=f"Write {source},channels=first if they are, {source},channels=last if the last axis is the bands.",
        )
    return images


def _load(path: Path) -> NDArray[Any]:
    """The array of a file, mapped into memory: a header can announce more than there is."""
    with reading(path, "the file is not an array", hint="Write it with numpy.save."):
        check_regular(path)
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise TypeError("it is an archive of several (.npz)")
        return found
