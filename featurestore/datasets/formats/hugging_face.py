"""Hugging Face datasets saved on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.arrays import Concatenation
from featurestore.datasets.base import Sample
from featurestore.datasets.boundary import decoding, reading
from featurestore.datasets.columns import tell_columns
from featurestore.datasets.decoding.images import decode_image, digest_of_picture
from featurestore.datasets.files import fingerprint_of
from featurestore.datasets.labels import (
    Encoded,
    as_sequence,
    as_text,
    encode_groups,
    encode_indices,
    encode_labels,
    list_values,
    normalise_split,
    scheme_fields,
)
from featurestore.datasets.naming import identity
from featurestore.datasets.source_file import read_file
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError, UnreadableImageError
from featurestore.registry import unknown_name
from featurestore.samples import SampleTable, join_notices

_TEXT_LABELS = ("label", "class")


class HuggingFace:
    """A `datasets.Dataset` or `DatasetDict` that ``save_to_disk`` wrote; the keys of a dict are splits.

    Columns of type ClassLabel are label schemes; so are columns of text or numbers called ``label`` or ``class``; see
    `featurestore.datasets.labels.unify` for missing labels. Sample ids are ``SPLIT/ROW``, or the values of a column
    ``id``. A column ``group`` gives groups.

    Args:
        path: The saved folder.
        name: Name of the dataset; by default made from the path.
        image: Column with images; may be left out if there is only one.
        labels: Label columns, one scheme each; by default as above.
        keep: Texts that are labels although they look like missing values, such as NA.

    Raises:
        EmptyDatasetError: No rows.
        LabelMismatchError: Splits that differ in their label columns or classes, or labels that are not single values.
        DatasetError: The folder is not a saved dataset, its image column is not certain, or a row has no id.
    """

    decoder = "pillow"

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        image: str | None = None,
        labels: str | Sequence[str] = (),
        keep: str | Sequence[str] = (),
    ) -> None:
        place = Path(path)
        splits = _load(place)
        self._column = _image_column(next(iter(splits.values())).features, image, place)
        self._parts = [_undecoded(part, self._column) for part in splits.values()]
        self._rows = Concatenation(len(part) for part in self._parts)
        self._table = SampleTable(
            **identity("hf", place, name),
            **_fields(splits, self._column, as_sequence(labels), keep),
            fingerprints=np.concatenate([_fingerprints(part, self._column) for part in splits.values()]),
        )

    @property
    def table(self) -> SampleTable:
        """Ids, labels, splits, groups."""
        return self._table

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, row: int) -> Sample:
        """Decode one image; see `decode_image`.

        Raises:
            UnreadableImageError: The image is missing or cannot be decoded.
        """
        part, own = self._rows.locate(row)
        where = f"{self._table.name}, {self._table.sample_ids[row]}"
        with decoding(where, "the row cannot be read"):
            content = self._parts[part][own][self._column]
        data = _bytes_of(content, where)
        image = decode_image(data, where)
        return Sample(image, digest_of_picture(data, image))

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether the folder holds what ``save_to_disk`` writes."""
        return any((path / name).is_file() for name in ("dataset_dict.json", "state.json"))


def _load(place: Path) -> Mapping[str, Any]:
    """Split -> `datasets.Dataset`; a dataset without splits has the key ``""``."""
    import datasets

    with reading(place, "not a dataset that save_to_disk wrote", hint="Give the folder that it wrote."):
        try:
            loaded = datasets.load_from_disk(str(place))
        except IndexError as error:  # what the library raises for a split without rows
            raise _no_rows(place) from error
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {"": loaded}
    if not any(len(part) for part in splits.values()):
        raise _no_rows(place)
    return splits


def _no_rows(place: Path) -> EmptyDatasetError:
    return EmptyDatasetError("the dataset, or one of its splits, has no rows", where=place, hint="Save it with images.")


def _image_column(features: Mapping[str, Any], given: str | None, place: Path) -> str:
    import datasets

    columns = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    if given is not None and given not in columns:
        raise unknown_name("image column", given, columns)
    if given is None and len(columns) != 1:
        raise DatasetError(
            f"{len(columns)} columns of type Image among {', '.join(features)}",
            where=place,
            hint="Name the one to use." if columns else "Cast the column with images to datasets.Image and save again.",
        )
    return given or columns[0]


def _undecoded(part: Any, column: str) -> Any:
    """The image column alone, as bytes or paths."""
    import datasets

    if column not in part.features:
        raise unknown_name("image column", column, part.features)
    return part.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _bytes_of(content: Mapping[str, Any] | None, where: str) -> bytes:
    hint = "Save the dataset with its images."
    with reading(where, "the file cannot be read", hint=hint, error=UnreadableImageError):
        if content and content["bytes"] is not None:
            return bytes(content["bytes"])
        if content and content["path"]:
            return read_file(Path(content["path"]))
    raise UnreadableImageError("the row has no image", where=where, hint="Add the image, or remove the row.")


def _fields(splits: Mapping[str, Any], image: str, labels: Sequence[str], keep: str | Sequence[str]) -> dict[str, Any]:
    features = {name: feature for part in splits.values() for name, feature in part.features.items()}
    schemes = list(labels or _label_columns(features))
    roles = {
        "images": [image],
        "labels": schemes,
        **{f"{name}s": [name] for name in ("group", "id") if name in features},
    }
    fields = scheme_fields({name: _scheme(name, splits, keep) for name in schemes})
    groups, lost = encode_groups(_values("group", splits)) if "group" in features else (None, "")
    return fields | {
        "notice": join_notices(tell_columns("the dataset", list(features), roles), fields["notice"], lost),
        "sample_ids": _sample_ids(splits, given="id" in features),
        "splits": np.repeat([normalise_split(split) for split in splits], [len(part) for part in splits.values()]),
        "groups": groups,
    }


def _sample_ids(splits: Mapping[str, Any], *, given: bool) -> tuple[str, ...]:
    if not given:
        return tuple(f"{split}/{row:06d}".lstrip("/") for split, part in splits.items() for row in range(len(part)))
    ids = [as_text(value) for value in _values("id", splits)]
    if None in ids:
        raise DatasetError(f"row {ids.index(None)} has no id", where="id", hint="Give every row an id.")
    return tuple(value for value in ids if value is not None)


def _fingerprints(part: Any, column: str) -> NDArray[np.uint64]:
    """Size and time of the Arrow files, and of the file that an image only points to."""
    from pyarrow.compute import struct_field

    own = [Path(file["filename"]).stat() for file in part.cache_files]
    images = part.data.column(column)
    fingerprints = np.full(len(part), fingerprint_of(*own), dtype=np.uint64)
    embedded = struct_field(images, "bytes").is_valid().to_pylist()
    paths = struct_field(images, "path").to_pylist()
    for row in np.flatnonzero(~np.array(embedded, dtype=bool)).tolist():
        if paths[row] and Path(paths[row]).exists():
            fingerprints[row] = fingerprint_of(Path(paths[row]).stat())
    return fingerprints


def _label_columns(features: Mapping[str, Any]) -> list[str]:
    import datasets

    return [n for n, feature in features.items() if isinstance(feature, datasets.ClassLabel) or n in _TEXT_LABELS]


def _values(name: str, splits: Mapping[str, Any]) -> list[Any]:
    lacking = [split for split, part in splits.items() if name not in part.column_names]
    if len(lacking) == len(splits):
        raise unknown_name("column", name, {known for part in splits.values() for known in part.column_names})
    if lacking:
        raise LabelMismatchError(
            f"the column {name!r} is missing in the split {', '.join(lacking)}",
            where=name,
            hint="Save all splits with the same columns; null marks what is not known.",
        )
    return [value for part in splits.values() for value in list_values(part.data.column(name))]


def _scheme(name: str, splits: Mapping[str, Any], keep: str | Sequence[str]) -> Encoded:
    import datasets

    values = _values(name, splits)
    if not all(isinstance(part.features[name], datasets.ClassLabel | datasets.Value) for part in splits.values()):
        raise LabelMismatchError(
            f"the column {name!r} holds no single values",
            where=name,
            hint="Save one class a row, or name another column.",
        )
    known = {tuple(getattr(part.features[name], "names", ())) for part in splits.values()}
    if len(known) > 1:
        raise LabelMismatchError(
            f"the splits name the classes of {name!r} differently",
            where=name,
            hint="Save all splits with one ClassLabel.",
        )
    classes = known.pop()
    return encode_indices(values, classes, keep) if classes else encode_labels(values, keep)
