"""Selection: from what a user asks for (dataset, variant, backbone, fields of the key) to keys, or a helpful error."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.errors import AmbiguousFeaturesError, MissingFeaturesError
from featurestore.registry import unknown_name
from featurestore.store.commands import EXAMPLE, extract_command
from featurestore.store.entry import FeatureEntry
from featurestore.store.key import FeatureKey

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

KEY, WEIGHTS = "key", "weights"
"""Names that are not fields of the key: the start of its SHA-256, and the source of the weights in the provenance."""

_FIELD_NAMES = (KEY, WEIGHTS, *FeatureKey.__dataclass_fields__)


@dataclass(frozen=True)
class Request:
    """What is looked for; None matches everything.

    Attributes:
        dataset: Name of the dataset.
        variant: Name of the variant.
        backbone: Name of the backbone.
        pooling: Name of a pooling that must be there.
        fields: Fields of the key and the values they must have; ``key`` is the start of its SHA-256, ``weights`` the
            source of the weights as the provenance states it.
    """

    dataset: str | None
    variant: str | None
    backbone: str | None
    pooling: str | None
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in self.fields:
            if name.partition(".")[0] not in _FIELD_NAMES:
                raise unknown_name("field of a feature key", name, _FIELD_NAMES)

    def matches(self, entry: FeatureEntry) -> bool:
        """Whether these features are what is looked for, names of groups aside."""
        if self.pooling is not None and self.pooling not in entry.shapes:
            return False
        known = {**entry.key.fields, **entry.key.to_dict(), WEIGHTS: entry.provenance.get(WEIGHTS)}
        return all(
            entry.key.sha256.startswith(str(value)) if name == KEY else known.get(name) == value
            for name, value in self.fields.items()
        )

    def __str__(self) -> str:
        names = [self.dataset, self.variant, self.backbone, self.pooling]
        return " ".join([name or "*" for name in names] + [f"{name}={value}" for name, value in self.fields.items()])


def find_dataset(store: FeatureStore, text: str) -> str | None:
    """Name of a stored dataset by what the user calls it; None where only opening the dataset can tell.

    Args:
        store: Where it is.
        text: Its name, the path or ``KIND:PATH`` that it was extracted from, or a shortcut such as ``first``.
    """
    names = store.datasets()
    if text in names:
        return text
    found = [name for name in names if leads_to(text, store.source(name))]
    return found[0] if len(found) == 1 else None


def leads_to(text: str, source: str) -> bool:
    """Whether what the user typed leads to a source, ``KIND:PATH`` with an absolute path."""
    kind, _, path = source.partition(":")
    if text == source or not path:
        return text == source
    if "://" in path:
        return text == path
    try:
        return Path(text.removeprefix(f"{kind}:")).expanduser().resolve() == Path(path)
    except (OSError, RuntimeError):  # a path that cannot be looked up, or ~NAME without such a user
        return False


def find_features(
    store: FeatureStore, dataset: str, variant: str | None = None, backbone: str | None = None, key: str | None = None
) -> list[FeatureEntry]:
    """All stored features of a dataset, narrowed by what is given; at least one.

    Args:
        store: Where they are.
        dataset: Name of the dataset.
        variant: Name of the variant.
        backbone: Name of the backbone.
        key: Start of the SHA-256 of the key.

    Raises:
        MissingFeaturesError: There are none.
    """
    fields: dict[str, Any] = {KEY: key} if key else {}
    return store.find(dataset, variant, backbone, **fields) or [store.select(dataset, variant, backbone, **fields)]


def choose(
    found: Sequence[FeatureEntry], others: Sequence[FeatureEntry], request: Request, data: str, store: str
) -> FeatureEntry:
    """The one that was found.

    Args:
        found: What matches the request.
        others: What the store has of this dataset, whether it matches or not.
        request: What was asked for.
        data: What the user calls the dataset on the command line; empty where there is none.
        store: Path of the store.

    Raises:
        MissingFeaturesError: None was found.
        AmbiguousFeaturesError: Several were found.
    """
    if len(found) == 1:
        return found[0]
    if found:
        raise AmbiguousFeaturesError(
            f"{len(found)} stored features match: {_list_differences(found)}", where=request, hint=_how_to_choose(found)
        )
    options = {"pooling": request.pooling, **request.fields}
    backbone, variant = (others[0].backbone, others[0].variant) if others else (EXAMPLE, "")
    command = extract_command(data, request.backbone or backbone, request.variant or variant, store, options)
    run = command if data else shlex.join(["skyprobe", "ls", "--store", store])
    stored = ", ".join(f"{entry.variant} {entry.backbone} {'/'.join(entry.shapes)}" for entry in others)
    raise MissingFeaturesError(
        "these features are not in the store", where=request, hint=f"Run: {run}. Stored: {stored or 'none'}."
    )


def _list_differences(found: Sequence[FeatureEntry]) -> str:
    """Each key with the fields in which the found ones differ."""
    names = sorted({name for one in found for name in found[0].key.differences(one.key)})
    return "; ".join(
        f"{one.variant} {one.backbone} {one.key.short}: {', '.join(f'{n}={one.key.fields.get(n)}' for n in names)}"
        for one in found
    )


def _how_to_choose(found: Sequence[FeatureEntry]) -> str:
    fields = [field for field in ("variant", "backbone") if len({getattr(one, field) for one in found}) > 1]
    names = {name for one in found for name in found[0].key.differences(one.key)}
    fields += [name for name in ("precision", "weights_hash", "engine", "device", "dtype") if name in names]
    return f"Choose by {' or '.join([*fields, KEY])}, for example key={found[0].key.short}."
