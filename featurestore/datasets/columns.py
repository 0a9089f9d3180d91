"""Which column of a catalogue is what: from a table of text to the fields of a sample table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.files import check_match, fingerprints_of, some_of
from featurestore.datasets.labels import as_sequence, encode_groups, encode_labels, normalise_split, scheme_fields
from featurestore.datasets.matching import ImageFinder
from featurestore.datasets.table import Catalogue
from featurestore.errors import DatasetError
from featurestore.samples import join_notices

_CHOICE = " To choose, end DATA by ,labels=COLUMN,split=COLUMN (extract: --label-column, --split-column)."
_FILE = ("file", "filename", "file_name", "path", "image")
_LABELS = ("label", "class")
_RA = ("ra", "ra_deg", "raj2000", "_raj2000")
_DEC = ("dec", "dec_deg", "dej2000", "decj2000", "_dej2000")


@dataclass(frozen=True)
class ColumnChoice:
    """What the user chose.

    Attributes:
        file: Column with file names; None: the first of file, filename, file_name, path and image.
        labels: Label columns, one scheme each; empty: ``label``, ``class``, and those that begin with ``label_``.
        split: Column with splits; None: ``split``.
        keep: Texts that are labels although they look like missing values; see `featurestore.datasets.labels.unify`.
    """

    file: str | None = None
    labels: str | Sequence[str] = ()
    split: str | None = None
    keep: str | Sequence[str] = ()


def sample_fields(
    catalogue: Catalogue, found: Mapping[str, int], choice: ColumnChoice | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a sample table needs, and the path of each row.

    The columns ``group``, ``id``, ``ra`` and ``dec`` (degrees) are used where they exist. Rows keep the order of the
    catalogue. The notice tells which columns are used for what, which are left, and which labels are missing.

    Args:
        catalogue: The table.
        found: Relative path -> fingerprint of the images that exist.
        choice: Columns that the user chose.

    Raises:
        UnknownNameError: A column that was chosen is not there.
        LabelMismatchError: Rows without an image, or images without a row.
        DatasetError: No column names the files, or a row has no file name or no id.
    """
    chosen = choice or ColumnChoice()
    roles = _find_roles(catalogue, chosen)
    paths = _match(catalogue, roles["images"][0], found)
    fields = scheme_fields({name: encode_labels(catalogue.column(name), chosen.keep) for name in roles["labels"]})
    splits = [normalise_split(value) for name in roles["splits"] for value in catalogue.column(name)]
    groups, lost = encode_groups(catalogue.column(roles["groups"][0])) if roles["groups"] else (None, "")
    told = tell_columns(catalogue.path.name, catalogue.names, roles)
    if "Not used" in told and not (roles["labels"] and roles["splits"]):
        told += _CHOICE
    fields["notice"] = join_notices(told, fields["notice"], lost)
    return fields | {
        "sample_ids": _sample_ids(catalogue, roles["ids"][0]) if roles["ids"] else paths,
        "splits": np.array(splits or [""] * len(paths), dtype=np.str_),
        "groups": groups,
        "sky": _sky(catalogue, roles["positions"]),
        "fingerprints": fingerprints_of(paths, found),
    }, paths


def _find_roles(catalogue: Catalogue, chosen: ColumnChoice) -> dict[str, list[str]]:
    """What columns are used for -> their names, in the order in which the notice tells them."""
    file, positions = chosen.file or catalogue.find(*_FILE), [catalogue.find(*names) for names in (_RA, _DEC)]
    if file is None:
        raise DatasetError(
            f"no column names the image files; there are {some_of(catalogue.names, 20)}",
            where=catalogue.path,
            hint=f"Call it one of {', '.join(_FILE)}, or give its name by ,file=COLUMN at the end of DATA.",
        )
    labels = as_sequence(chosen.labels) or [name for name in catalogue.names if _is_label(name)]
    return {
        "images": [file],
        "labels": list(labels),
        "splits": _present(chosen.split or catalogue.find("split")),
        "groups": _present(catalogue.find("group")),
        "ids": _present(catalogue.find("id")),
        "positions": _present(*positions) if None not in positions else [],
    }


def _present(*names: str | None) -> list[str]:
    return [name for name in names if name]


def _is_label(name: str) -> bool:
    return name.lower() in _LABELS or name.lower().startswith("label_")


def tell_columns(where: str, names: Sequence[str], roles: Mapping[str, Sequence[str]]) -> str:
    """A notice of the columns that are used, by what they are used for, and of those that are not.

    Args:
        where: Name of the file or dataset.
        names: All its columns.
        roles: What columns are used for, ``labels`` among them -> their names.
    """
    used = "; ".join(f"{role} from {', '.join(columns)}" for role, columns in roles.items() if columns)
    known = {name for columns in roles.values() for name in columns}
    left = [name or "(no name)" for name in names if name not in known]
    return " ".join(
        [f"Columns of {where}: {used}."]
        + [f"Not used: {some_of(left, 20)}."] * bool(left)
        + ["There are no labels."] * (not roles["labels"])
    )


def _match(catalogue: Catalogue, column: str, found: Mapping[str, int]) -> tuple[str, ...]:
    """Paths of the images, counted from the folder or from its folder ``images``."""
    names, finder = catalogue.column(column), ImageFinder(found, ("images/",))
    if None in names:
        raise DatasetError(
            f"row {names.index(None) + 1} of the catalogue names no file", where=catalogue.path, hint="Name its image."
        )
    paths = {name: finder.find(name) for name in names if name}
    missing = [name for name in names if name and paths[name] is None]
    check_match(missing, sorted(found.keys() - set(paths.values())), catalogue.path)
    return tuple(paths[name] or "" for name in names if name)


def _sample_ids(catalogue: Catalogue, column: str) -> tuple[str, ...]:
    ids = catalogue.column(column)
    if None in ids:
        raise DatasetError(
            f"row {ids.index(None) + 1} of the catalogue has no id", where=catalogue.path, hint="Give every row an id."
        )
    return tuple(value for value in ids if value is not None)


def _sky(catalogue: Catalogue, columns: Sequence[str]) -> NDArray[np.float64] | None:
    """Positions in degrees; NaN for a row whose values are not such angles, which grouping will count."""
    if not columns:
        return None
    sky = np.stack([catalogue.degrees(name) for name in columns], axis=1)
    sky[(abs(sky) > (360, 90)).any(axis=1)] = np.nan
    return sky
