"""Temperature scaling of probabilities (Guo et al. 2017, ICML, "On calibration of modern neural networks")."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from featurestore.errors import ProbeError

COLDEST, HOTTEST = 0.05, 20.0
"""Range of temperatures: rows that are all right, or all wrong, would drive it to 0 or to infinity."""

SMALLEST = 1e-12
"""Probabilities below this count as this: the vote of a few neighbours may leave a class out altogether."""


def fit_temperature(probabilities: NDArray[np.floating], y: NDArray[np.integer[Any]]) -> float:
    """The temperature with the smallest negative log likelihood, by a bounded scalar search (Brent).

    Args:
        probabilities: (n, n_classes), of rows that the classifier was not fitted on; rows sum to one.
        y: (n,) Class index of each row.

    Returns:
        Temperature between 0.05 and 20; 1 where no other lowers the loss.

    Raises:
        ProbeError: No rows, rows that are not probabilities, or labels that do not fit them.
    """
    logits = _to_logits(probabilities)
    _check_targets(y, logits)
    found = minimize_scalar(
        lambda log_t: _loss(logits, y, np.exp(log_t)), bounds=np.log([COLDEST, HOTTEST]), method="bounded"
    )
    temperature = float(np.exp(found.x))
    return temperature if _loss(logits, y, temperature) < _loss(logits, y, 1.0) else 1.0


def apply_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """Probabilities whose logits are divided by a temperature; above 1 they become less certain.

    The order of the classes of a row stays, so no prediction changes.

    Args:
        probabilities: (n, n_classes); rows sum to one.
        temperature: Above 0.

    Returns:
        float64 (n, n_classes).

    Raises:
        ProbeError: Rows that are not probabilities, or a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ProbeError(f"the temperature is {temperature}", where="temperature", hint="Give one above 0.")
    return np.asarray(softmax(_to_logits(probabilities) / temperature, axis=1))


def _to_logits(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or not ((values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-4)):
        raise ProbeError(
            "these rows are not probabilities: they must be positive and sum to one",
            where=f"array of shape {values.shape}",
            hint="Give what predict_proba returns.",
        )
    return np.log(np.maximum(values, SMALLEST))


def _check_targets(y: NDArray[np.integer[Any]], logits: NDArray[np.float64]) -> None:
    if len(y) == 0 or len(y) != len(logits):
        raise ProbeError(
            f"{len(y)} labels for {len(logits)} rows of probabilities",
            where="calibration",
            hint="Give one label a row.",
        )
    if y.min() < 0 or y.max() >= logits.shape[1]:
        raise ProbeError(
            f"labels from {y.min()} to {y.max()} for {logits.shape[1]} classes",
            where="calibration",
            hint="Give the class index of each row.",
        )


def _loss(logits: NDArray[np.float64], y: NDArray[np.integer[Any]], temperature: float) -> float:
    """Negative log likelihood, the mean of the rows."""
    return float(-log_softmax(logits / temperature, axis=1)[np.arange(len(y)), y].mean())
