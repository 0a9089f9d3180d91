"""MiraBest: radio galaxies of Fanaroff-Riley class I and II, in pickled batches as CIFAR has them."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.arrays import ArrayDataset, file_columns, row_names
from featurestore.datasets.boundary import reading
from featurestore.datasets.naming import identity
from featurestore.datasets.public.plain_pickle import load_plain
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError
from featurestore.label_mapping import map_labels
from featurestore.samples import SampleTable

CODES = ("100", "102", "104", "110", "112", "200", "201", "210", "300", "310")
"""The ten classes of Porter & Scaife 2023 (arXiv:2305.11108), in the order of their labels.

First digit: FRI (1), FRII (2), hybrid (3). Second: confident (0) or uncertain (1). Third: standard morphology (0),
double-double (1), wide-angle tail (2), head-tail (4).
"""

FR_CLASSES = ("FRI", "FRII")

_META, _TEST = "batches.meta", "test_batch"
_SIDE = 150


class MiraBest(ArrayDataset):
    """Images of ``data_batch_1``, ``data_batch_2`` ... (train) and ``test_batch`` (test) in one folder.

    A batch is a pickle with ``data`` (uint8, n images of 150 x 150), ``labels`` and, usually, ``filenames``, which
    become the sample ids: they hold the sky coordinates. Pickles are read as plain data; see `load_plain`. All images
    stay in memory (28 MB).

    Label schemes: ``class`` (all classes that ``batches.meta`` names; the ten of `CODES` without that file),
    ``fri-frii`` (hybrids are unlabelled), and ``confident`` (FRI and FRII of the confident classes alone) where
    classes are told by codes.

    Args:
        path: The folder.
        name: Name of the dataset; by default made from the path.

    Raises:
        EmptyDatasetError: No batch, or no image in them.
        DatasetError: A file is not a batch, or holds more than plain data.
        LabelMismatchError: Numbers of labels, names and images differ, or a label has no class.
    """

    def __init__(self, path: str, *, name: str | None = None) -> None:
        root = Path(path)
        batches = [_Batch(file) for file in _find(root)]
        columns = file_columns(batches, root)
        classes = _class_names(root)
        table = SampleTable(
            **identity("mirabest", root, name),
            **_schemes(np.concatenate([batch.labels for batch in batches]), classes),
            sample_ids=tuple(name for batch in batches for name in batch.names),
            splits=np.array([split or "train" for split in columns["splits"]]),
            fingerprints=columns["fingerprints"],
        )
        super().__init__(table, batches)

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether the folder holds batches and what describes them."""
        return (path / _META).is_file() and (path / _TEST).is_file()


def _find(root: Path) -> list[Path]:
    numbers = {int(file.name[11:]): file for file in root.glob("data_batch_*") if file.name[11:].isdecimal()}
    files = [numbers[number] for number in sorted(numbers)]
    files += [root / _TEST] if (root / _TEST).is_file() else []
    if not files:
        raise EmptyDatasetError(
            "no data_batch_1 or test_batch", where=root, hint="Give the folder of the batches, often called batches."
        )
    return files


class _Batch:
    """One file, in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        content = load_plain(path)
        hint = f"It must hold data, uint8 images of {_SIDE} x {_SIDE}, and labels."
        with reading(path, "the file is not a batch of MiraBest", hint=hint):
            self._images = _as_images(content["data"])
            self.labels = np.array([int(label) for label in content["labels"]], dtype=np.int64)
            given = content.get("filenames")
        self.names = row_names(self) if given is None else [PurePosixPath(str(file)).name for file in given]
        for noun, n_values in {"labels": len(self.labels), "file names": len(self.names)}.items():
            if n_values != len(self):
                raise LabelMismatchError(
                    f"{n_values} {noun} for {len(self)} images", where=path, hint="Download the file again."
                )

    def __len__(self) -> int:
        return len(self._images)

    def read(self, row: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self._images[row]
        return image


def _as_images(data: Any) -> NDArray[np.uint8]:
    images = np.asarray(data)
    if images.dtype != np.uint8 or images.size != len(images) * _SIDE**2:
        raise ValueError(f"data are {images.dtype} {images.shape}")
    return images.reshape(-1, _SIDE, _SIDE)


def _class_names(root: Path) -> tuple[str, ...]:
    """Class names in the order of the labels."""
    file = root / _META
    if not file.is_file():
        return CODES
    content = load_plain(file)
    names = content.get("label_names") if isinstance(content, dict) else None
    if not isinstance(names, list) or not names:
        raise DatasetError("the file names no labels", where=file, hint="It must hold a list label_names.")
    return tuple(str(name) for name in names)


def _schemes(labels: NDArray[np.int64], classes: tuple[str, ...]) -> dict[str, Any]:
    schemes = {"class": (labels, classes)}
    if labels.max() < len(classes):  # the table itself refuses what lies outside
        schemes["fri-frii"] = map_labels(labels, [_fr_class(name) for name in classes], FR_CLASSES), FR_CLASSES
        if set(classes) <= set(CODES):
            names = [_fr_class(name) if name[1] == "0" else "" for name in classes]
            schemes["confident"] = map_labels(labels, names, FR_CLASSES), FR_CLASSES
    return {
        "labels": {name: values for name, (values, _) in schemes.items()},
        "classes": {name: names for name, (_, names) in schemes.items()},
    }


def _fr_class(name: str) -> str:
    """``FRI``, ``FRII`` or, for a hybrid, neither: from a class name, which may be one of `CODES`."""
    return {"1": FR_CLASSES[0], "2": FR_CLASSES[1]}.get(name[:1], name) if name in CODES else name
