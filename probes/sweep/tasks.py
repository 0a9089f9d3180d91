"""Tasks: one fit of the grid each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from featurestore.samples import SampleTable
from featurestore.store.key import digest
from featurestore.versions import library_versions
from probes.heads.registry import HEADS, REVISION, Head
from probes.solvers.backend import backend_versions
from probes.sweep.splits import Rows


@dataclass(frozen=True)
class Task:
    """One fit: a head with its parameters, and the rows it may see.

    Attributes:
        head: Name of the head.
        params: Parameters of the head, with ``random_state`` and, where the head has one, ``protocol``.
        protocol: ``cv`` or ``paper``.
        scheme: Label scheme.
        fraction: Percent of the training labels.
        seed: Seed of subset and initialisation.
        train: int64, rows to fit on.
        pool: int64, all training rows, of which `train` is a fraction.
        valid: int64, labelled rows to choose by; empty for a head that does not look at any.
        test: int64, rows to predict.
        notes: What the result row has to state beyond what the head chose.
        split: Where the rows come from, see `probes.sweep.splits.describe_split`; it decides no number.
        origin: See `digest_origin`; it decides no number either.
    """

    head: str
    params: Mapping[str, Any]
    protocol: str
    scheme: str
    fraction: int
    seed: int
    train: Rows
    pool: Rows
    valid: Rows
    test: Rows
    notes: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""
    origin: str = ""

    def build(self) -> Head:
        """The head, unfitted."""
        return HEADS.get(self.head)(**self.params)


def digest_origin(table: SampleTable, scheme: str) -> str:
    """Digest of what a run depends on beside its features and parameters: labels, built-in heads and libraries.

    Of two runs of the same name, it tells the one that would be made today from one that is out of date.
    """
    versions = library_versions("probing") | backend_versions()
    return digest({"labels": table.label_digest(scheme), "revision": REVISION, "libraries": versions})
