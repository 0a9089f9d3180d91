"""Heads by name, and the one contract they share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UsageError
from featurestore.registry import Registry, unknown_name


class Head(Protocol):
    """A scikit-learn classifier that follows a protocol and can be stored as plain arrays.

    Attributes:
        protocols: Protocols it can follow: ``cv``, ``paper``.
        uses_validation: Whether `fit` takes ``X_valid`` and ``y_valid`` to choose by: `C`, an epoch.
        uses_groups: Whether `fit` takes ``groups`` (n,), so that what it holds out is whole groups. A head that lacks
            the attribute does not.
        classes_: int64, sorted labels it was fitted on, in the order of `predict_proba`.
        chosen_: What it chose while fitting: `C`, epochs.
    """

    protocols: tuple[str, ...]
    uses_validation: bool
    uses_groups: bool
    classes_: NDArray[np.int64]
    chosen_: dict[str, Any]

    def __init__(self, **params: Any) -> None: ...

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters of the constructor."""
        ...

    def fit(self, X: NDArray[np.float32], y: NDArray[np.int64], **more: Any) -> Head:
        """Fit on (n, d) features and (n,) labels."""
        ...

    def predict_proba(self, X: NDArray[np.float32]) -> NDArray[np.floating]:
        """Probabilities (n, len(classes_)); rows sum to one."""
        ...

    def to_arrays(self) -> Mapping[str, NDArray[Any]]:
        """Everything that prediction needs, as arrays by name."""
        ...

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Head:
        """The fitted head that `to_arrays` described."""
        ...


REVISION = 5
"""Of the built-in heads: raised by a change that alters their numbers, so that old runs are not taken for new ones."""

HEADS: Registry[type[Head]] = Registry("skyprobe.heads", "head")


def head_params(name: str, protocol: str, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters to build a head with: `options`, and of protocol and seed what the head has a parameter for.

    Raises:
        UnknownNameError: No such head, or a parameter that the head does not have.
        UsageError: A protocol that the head cannot follow.
    """
    head = HEADS.get(name)
    if protocol not in head.protocols:
        raise UsageError(
            f"the head {name!r} has no protocol {protocol!r}", where=name, hint=f"Use {' or '.join(head.protocols)}."
        )
    known = head().get_params()
    for option in options:
        if option not in known:
            raise unknown_name(f"parameter of the head {name}", option, known)
    given = {"protocol": protocol, "random_state": seed}
    return {key: value for key, value in given.items() if key in known} | dict(options)


def expand_classes(
    probabilities: NDArray[np.floating], labels: NDArray[np.int64], n_classes: int
) -> NDArray[np.float32]:
    """Probabilities (n, len(labels)) of some classes as those of all, float32 (n, n_classes): 0 for the others."""
    expanded = np.zeros((len(probabilities), n_classes), dtype=np.float32)
    expanded[:, labels] = probabilities
    return expanded
