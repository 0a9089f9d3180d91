"""What the built-in heads share: checks of the input, prediction from logits, and fitted heads as plain arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, check_X_y, column_or_1d, validate_data

Floats = NDArray[np.float32]
Labels = NDArray[Any]
ClassWeight = Mapping[Any, float] | str | None

PROTOCOLS = ("cv", "paper")


class Probe(ClassifierMixin, BaseEstimator, ABC):
    """Base of the built-in heads; the contract that every head keeps is `probes.heads.registry.Head`.

    A subclass names in `fitted` the attributes that prediction needs, and gives
    `_probabilities`. Features are used as float32. Bad input raises scikit-learn's own ``ValueError``.

    Attributes:
        protocols: Protocols that the head can follow.
        uses_validation: Whether `fit` takes ``X_valid`` and ``y_valid`` to choose by.
        uses_groups: Whether `fit` takes ``groups``, which what it holds out must not cut.
        fitted: Names of the attributes that hold the fitted head.
        classes_: Sorted labels that were fitted on; in the order of `predict_proba`.
        chosen_: What was chosen while fitting.
        n_features_in_: Width of the features.
    """

    protocols: ClassVar[tuple[str, ...]] = PROTOCOLS
    uses_validation: ClassVar[bool] = False
    uses_groups: ClassVar[bool] = False
    fitted: ClassVar[tuple[str, ...]]

    classes_: Labels
    chosen_: dict[str, float | int | str]
    n_features_in_: int

    def predict(self, X: Any) -> Labels:
        """The most probable label of each row, (n,)."""
        probabilities = self.predict_proba(X)
        predicted: Labels = self.classes_[probabilities.argmax(axis=1)]
        return predicted

    def predict_proba(self, X: Any) -> Floats:
        """Probabilities of the labels `classes_`, float32 (n, len(classes_)); rows sum to one."""
        check_is_fitted(self, "classes_")
        X = validate_data(self, X, dtype=np.float32, reset=False)
        return self._probabilities(X)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that prediction needs, as arrays by name.

        Raises:
            sklearn.exceptions.NotFittedError: The head is not fitted.
        """
        check_is_fitted(self, "classes_")
        return {name: np.asarray(getattr(self, name)) for name in ("classes_", "n_features_in_", *self.fitted)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """The fitted head that `to_arrays` described; for prediction, its parameters are the defaults."""
        head = cls()
        for name in ("classes_", *cls.fitted):
            setattr(head, name, np.asarray(arrays[name]))
        head.n_features_in_ = int(arrays["n_features_in_"])
        return head

    @abstractmethod
    def _probabilities(self, X: Floats) -> Floats:
        """`predict_proba` of checked features."""

    def _check_training(self, X: Any, y: Any) -> tuple[Floats, NDArray[np.intp]]:
        """Features as float32, and the class index of each row; sets `classes_` and `n_features_in_`."""
        X, y = validate_data(self, X, y, dtype=np.float32)
        check_classification_targets(y)
        self.classes_, targets = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"{type(self).__name__} needs two classes or more, and y has one class only: {self.classes_[0]}"
            )
        return X, targets

    def _check_validation(self, X_valid: Any, y_valid: Any) -> tuple[Floats, NDArray[np.intp]]:
        """Features of validation rows as float32, and the class index of each row; after `_check_training`."""
        X_valid, y_valid = check_X_y(X_valid, y_valid, dtype=np.float32)
        if X_valid.shape[1] != self.n_features_in_:
            raise ValueError(f"X_valid has {X_valid.shape[1]} features, and X has {self.n_features_in_}")
        unknown = np.setdiff1d(y_valid, self.classes_)
        if len(unknown):
            raise ValueError(f"y_valid has labels that y has not: {', '.join(map(str, unknown))}")
        return X_valid, np.searchsorted(self.classes_, y_valid)

    @staticmethod
    def _check_groups(groups: Any, n: int) -> NDArray[np.intp] | None:
        """The number of the group of each row; None where every row is on its own."""
        if groups is None:
            return None
        names = column_or_1d(groups)
        if len(names) != n:
            raise ValueError(f"groups has {len(names)} values for {n} rows")
        numbers: NDArray[np.intp] = np.unique(names, return_inverse=True)[1]
        return numbers if numbers.max() + 1 < n else None

    def _check_protocol(self, protocol: str) -> None:
        if protocol not in self.protocols:
            raise ValueError(f"protocol must be one of {', '.join(self.protocols)}, not {protocol!r}")


def weigh_classes(class_weight: ClassWeight, classes: Labels, targets: NDArray[np.intp]) -> Floats:
    """Weight of each class, float32 (n_classes,).

    Args:
        class_weight: ``balanced`` for weights inversely proportional to the counts, None (``none`` in a study file) for
            ones, or label -> weight.
        classes: Labels.
        targets: (n,) Class index of each training row.
    """
    given = None if class_weight == "none" else class_weight
    weights = compute_class_weight(given, classes=classes, y=classes[targets])
    return np.asarray(weights, dtype=np.float32)
