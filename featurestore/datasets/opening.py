"""open_dataset: from what the user typed to a reader."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from featurestore.datasets.base import ImageDataset
from featurestore.datasets.naming import OPTIONS, source_at, split_options, with_options
from featurestore.datasets.remote import Place, RemotePath
from featurestore.errors import DatasetError, SkyprobeError, UsageError
from featurestore.registry import Registry, unknown_name
from featurestore.samples import SampleTable
from featurestore.sky_groups import group_by_sky, split_groups

READERS: Registry[Any] = Registry("skyprobe.datasets", "dataset reader")

REMOTE_KINDS = ("fits", "table", "image_folder")
"""Kinds that are read from object stores too; the others map or link files, which need a disk."""

DETECTION_ORDER = ("hf", "galaxy_mnist", "coco", "voc", "mirabest", "npy", "fits", "table", "image_folder")
"""Kinds that a bare path is tried as, the most specific first; any other kind is opened as ``KIND:PATH``."""


def open_dataset(text: str, **options: Any) -> ImageDataset:
    """Open a dataset.

    Args:
        text: ``first``; ``KIND:PATH`` with a kind of `READERS`, such as ``galaxy_mnist:PATH``; or a bare path. PATH may
            be a URL of an object store, for `REMOTE_KINDS`. The kind of a bare path is the first of
            `DETECTION_ORDER` whose reader recognises it: a folder that
            ``datasets`` saved, GalaxyMNIST HDF5 files, COCO annotation files, Pascal-VOC ones, MiraBest batches, .npy
            arrays, FITS images (without pictures beside them), a catalogue, pictures (and FITS images beside them). A
            path that exists and reads like ``KIND:PATH`` is taken for a path, unless there is a file or folder PATH as
            well. Any of them may end in options, ``,OPTION=VALUE``: arguments of the reader, such as
            ``,labels=fr+bar,split=fold`` (see `featurestore.datasets.naming.split_options`); and
            ``,groups=sky:RADIUS``: samples within RADIUS arcsec of each other then become groups (see
            `featurestore.sky_groups.group_by_sky`). With ``,catalogue=PATH`` a folder is opened as
            ``fits`` or ``table``, whatever else lies in it.
        **options: Passed to the reader, before those of the text: ``name`` for all, others as its class documents.

    Raises:
        UnknownNameError: No such kind, or no such option of its reader.
        UsageError: The text is empty, or the kind needs a path.
        DatasetError: The path does not exist, nothing is recognised there, or the reader refuses what it finds.
    """
    plain, given = split_options(split_groups(text)[0])
    kind, path = _locate(plain, given)
    given |= options
    reader = READERS.get(kind)
    known = [name for name in signature(reader).parameters if name != "path"]
    for option in given:
        if option not in known:
            raise _unknown_option(option, kind, known)
    places = () if path is None else (str(path),)
    dataset: ImageDataset = reader(*places, **given)
    radius, source = split_groups(text)[1], with_options(dataset.table.source, given)
    if radius is not None:
        return _Retold(dataset, replace(group_by_sky(dataset.table, radius), source=f"{source},groups=sky:{radius:g}"))
    return dataset if source == dataset.table.source else _Retold(dataset, replace(dataset.table, source=source))


class _Retold:
    """A dataset of which a table tells something else than its reader did; the images are the reader's."""

    def __init__(self, dataset: ImageDataset, table: SampleTable) -> None:
        self._dataset, self.table = dataset, table
        self.decoder, self.read = dataset.decoder, dataset.read

    def __len__(self) -> int:
        return len(self._dataset)


def dataset_kinds() -> dict[str, str]:
    """Kind -> what its reader says of itself in one line."""
    return {kind: (READERS.get(kind).__doc__ or "").partition("\n")[0] for kind in READERS.names()}


def source_of(text: str) -> str:
    """The same as ``KIND:PATH`` with an absolute path, or the shortcut itself; `SampleTable.source` of the dataset.

    Raises:
        UnknownNameError: No such kind.
        UsageError: The text is empty, or the kind needs a path.
        DatasetError: The path does not exist, or nothing is recognised there.
    """
    plain, given = split_options(text)
    kind, path = _locate(plain, given)
    return with_options(kind if path is None else source_at(kind, path), given)


def _locate(text: str, options: Mapping[str, Any]) -> tuple[str, Place | None]:
    """Kind and path; no path for a shortcut that needs none."""
    if not text.strip():  # as a path, this would be the current folder
        raise UsageError("no dataset is named", where="dataset", hint="Give a path, KIND:PATH or a shortcut.")
    kind, colon, rest = text.partition(":")
    if "://" in text:
        return _locate_remote(text, options)
    path = _expand(text)
    if kind in READERS.names() and (not _exists(path) or _wins_over_path(kind, colon, rest)):
        return kind, _path_of(kind, rest)
    if _exists(path):
        return _detect_labelled(path) if "catalogue" in options else _detect(path), path
    if colon and kind.isidentifier() and len(kind) > 1:  # one letter is a drive
        raise unknown_name("dataset kind", kind, READERS.names())
    raise _missing(path)


def _locate_remote(text: str, options: Mapping[str, Any]) -> tuple[str, Place]:
    """Kind and path of ``URL`` or ``KIND:URL``."""
    kind, _, rest = text.partition(":")
    if "://" not in rest:
        path = RemotePath.parse(text)
        return (_detect_labelled(path) if "catalogue" in options else _detect(path, REMOTE_KINDS)), path
    if kind not in READERS.names():
        raise unknown_name("dataset kind", kind, READERS.names())
    if kind not in REMOTE_KINDS:
        raise UsageError(
            f"the dataset kind {kind} is read from a disk only",
            where=text,
            hint=f"Copy the data to a disk first; of an object store, {', '.join(REMOTE_KINDS)} are read.",
        )
    path = RemotePath.parse(rest)
    if not path.exists():
        raise _missing(path)
    return kind, path


def _wins_over_path(kind: str, colon: str, rest: str) -> bool:
    """Whether ``KIND`` or ``KIND:PATH`` is meant, although a file or folder is called just like that."""
    return _exists(_expand(rest)) if colon else _needs_no_path(kind)


def _expand(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise DatasetError("there is no such home folder", where=text, hint="Check the name after ~.") from error


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise DatasetError(
            f"the path cannot be looked up: {error.strerror}", where=path, hint="Check the path and its permissions."
        ) from error


def _path_of(kind: str, rest: str) -> Path | None:
    if not rest and _needs_no_path(kind):
        return None
    if not rest:
        raise UsageError(f"the dataset kind {kind} needs a path", where=kind, hint=f"Write {kind}:PATH.")
    path = _expand(rest)
    if not _exists(path):
        raise _missing(path)
    return path


def _needs_no_path(kind: str) -> bool:
    return signature(READERS.get(kind)).parameters["path"].default is not Parameter.empty


def _missing(path: Place) -> SkyprobeError:
    ending = re.search(r",([a-z_-]+)=[^,/]*$", str(path))
    if ending and ending[1] not in OPTIONS:
        return unknown_name("option of a dataset", ending[1], OPTIONS)
    return DatasetError("no such file or folder", where=path, hint="Check the path.")


def _unknown_option(option: str, kind: str, known: Sequence[str]) -> SkyprobeError:
    if option not in ("labels", "file", "split"):
        return unknown_name(f"option of {kind}", option, known)
    return UsageError(
        f"{kind} has no columns to choose {option} from",
        where=f",{option}=",
        hint="Give the catalogue too: ,catalogue=PATH (extract: --catalogue).",
    )


def _detect_labelled(path: Place) -> str:
    """The kind of images whose catalogue is given."""
    return "fits" if READERS.get("fits").detects(path) else "table"


def _detect(path: Place, kinds: Sequence[str] = DETECTION_ORDER) -> str:
    if isinstance(path, RemotePath) and not path.exists():
        raise _missing(path)
    for kind in kinds:
        if READERS.get(kind).detects(path):
            return kind
    raise DatasetError(
        "no dataset is recognised here",
        where=path,
        hint="Accepted: class folders of images, a catalogue (CSV, ECSV, Parquet), COCO or Pascal-VOC annotations "
        "beside images, a folder of FITS images, .npy arrays, GalaxyMNIST HDF5 files, MiraBest batches, a saved "
        "Hugging Face dataset. Where several would fit, write "
        f"KIND:PATH with one of {', '.join(READERS.names())}.",
    )
