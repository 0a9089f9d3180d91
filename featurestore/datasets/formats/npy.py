"""Arrays of images in .npy files, mapped into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.arrays import ArrayDataset, file_columns, row_names
from featurestore.datasets.labels import encode_labels, scheme_fields
from featurestore.datasets.naming import identity
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError, UnreadableImageError
from featurestore.samples import SampleTable

_IMAGES, _LABELS = "images.npy", "labels.npy"
_KEPT, _AS_FLOAT = ("uint8", "uint16", "float32"), ("int8", "int16", "float16", "float64")


class NumpyArrays(ArrayDataset):
    """Images of ``images.npy`` and labels of ``labels.npy``, or of ``train_images.npy``, ``train_labels.npy`` ...

    Images are (n, H, W) or (n, H, W, C), first row on top: uint8, uint16 or float32; int8, int16, float16 and float64
    become float32. Labels are (n,), numbers or text, one label scheme ``class``; see
    `featurestore.datasets.labels.unify` for what is no label; an absent file gives none. A file whose name begins with
    the name of a split belongs to that one. Sample ids are ``STEM/ROW``. Objects (pickles) in the files are refused.

    Args:
        path: Folder of the files.
        name: Name of the dataset; by default made from the path.
        keep: Texts that are labels although they look like missing values, such as NA.

    Raises:
        EmptyDatasetError: No such file, or no image in them.
        DatasetError: A file is no array of this form.
        LabelMismatchError: Numbers of labels and images differ.
    """

    def __init__(self, path: str, *, name: str | None = None, keep: str | Sequence[str] = ()) -> None:
        root = Path(path)
        files = [_ImageFile(file) for file in _find(root)]
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

    def __init__(self, path: Path) -> None:
        self.path = path
        self._images = _load(path, mmap_mode="r")
        if self._images.ndim not in (3, 4) or self._images.dtype.name not in (*_KEPT, *_AS_FLOAT):
            raise DatasetError(
                f"images are {self._images.dtype} {self._images.shape}",
                where=path,
                hint=f"Write (n, H, W) or (n, H, W, C) of {', '.join((*_KEPT, *_AS_FLOAT))}.",
            )
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
        return list(labels.tolist())

    def read(self, row: int) -> NDArray[Any]:
        image = self._images[row]
        kind = image.dtype.newbyteorder("=") if image.dtype.name in _KEPT else np.dtype(np.float32)
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite
            image = np.array(image, dtype=kind)
        if kind == np.float32 and np.isnan(image).all():
            raise UnreadableImageError("every pixel is NaN", where=f"{self.path}, row {row}", hint="Remove the image.")
        return image


def _load(path: Path, **options: Any) -> NDArray[Any]:
    try:
        return np.asanyarray(np.load(path, allow_pickle=False, **options))
    except (OSError, ValueError) as error:
        raise DatasetError(f"the file is no array: {error}", where=path, hint="Write it with numpy.save.") from error
