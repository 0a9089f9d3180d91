"""Scores of predicted probabilities.

A class without test rows has no recall: its scores are NaN and are in no mean. A class that has test rows but was
never predicted scores 0. Macro means are unweighted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss, precision_recall_fscore_support, roc_auc_score

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Metric = Literal["f1", "precision", "recall", "accuracy"]

N_BINS = 15
"""Bins of the expected calibration error."""


@dataclass(frozen=True)
class Scores:
    """Scores of one run.

    Attributes:
        per_class: ``precision, recall, f1, auroc, support`` -> float64 (n_classes,).
        macro: ``precision, recall, f1, auroc`` -> unweighted mean over the classes that have test rows.
        overall: ``accuracy, balanced_accuracy, log_loss, ece, support`` -> value over all test rows.
    """

    per_class: dict[str, Floats]
    macro: dict[str, float]
    overall: dict[str, float]


def score(truth: Labels, probabilities: NDArray[np.floating]) -> Scores:
    """All scores of one run.

    Args:
        truth: int64 (n,), true classes.
        probabilities: (n, n_classes), rows sum to one.
    """
    probabilities = _normalised(probabilities)
    per_class = _class_scores(truth, probabilities)
    tested = per_class["support"] > 0
    macro = {name: _mean(values[tested]) for name, values in per_class.items() if name != "support"}
    overall = {
        "accuracy": float(accuracy_score(truth, probabilities.argmax(axis=1))),
        "balanced_accuracy": macro["recall"],
        "log_loss": float(log_loss(truth, probabilities, labels=np.arange(probabilities.shape[1]))),
        "ece": expected_calibration_error(truth, probabilities),
        "support": float(len(truth)),
    }
    return Scores(per_class, macro, overall)


def expected_calibration_error(truth: Labels, probabilities: NDArray[np.floating], n_bins: int = N_BINS) -> float:
    """Expected calibration error over equal-width bins of the confidence.

    With B_m the rows whose highest probability lies in ((m - 1) / M, m / M]::

        ECE = sum_m |B_m| / n * |acc(B_m) - conf(B_m)|

    Source: Guo et al. 2017, On Calibration of Modern Neural Networks, ICML, equations 2 and 3; M = 15 as there.

    Args:
        truth: int64 (n,), true classes.
        probabilities: (n, n_classes).
        n_bins: M.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    correct = probabilities.argmax(axis=1) == truth
    bins = np.clip(np.ceil(confidence * n_bins).astype(np.int64) - 1, 0, n_bins - 1)
    gaps = np.bincount(bins, weights=correct - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(truth))


def macro_scores(confusions: Floats, metric: Metric = "f1") -> Floats:
    """The metric of confusion matrices, float64 (k,); a class without true rows is in no mean.

    Args:
        confusions: float64 (k, n_classes, n_classes), counts by true and by predicted class.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
    """
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    return score_counts(hits, confusions.sum(axis=2), confusions.sum(axis=1), metric)


def score_counts(hits: Floats, true: Floats, predicted: Floats, metric: Metric = "f1") -> Floats:
    """The metric from counts by class, float64 (...); a class without true rows is in no mean.

    Args:
        hits: float64 (..., n_classes), rows that were predicted right.
        true: float64 (..., n_classes), rows of the class; its shape may be one that broadcasts to that of `hits`.
        predicted: float64 (..., n_classes), rows that were predicted to be of the class.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
    """
    if metric == "accuracy":
        return np.asarray(hits.sum(axis=-1) / true.sum(axis=-1))
    base = {"precision": predicted, "recall": true, "f1": (true + predicted) / 2}[metric]
    ratio = np.divide(hits, base, out=np.zeros_like(hits), where=base > 0)
    tested = true > 0
    return np.asarray((ratio * tested).sum(axis=-1) / tested.sum(axis=-1))


def _class_scores(truth: Labels, probabilities: Floats) -> dict[str, Floats]:
    classes = np.arange(probabilities.shape[1])
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, probabilities.argmax(axis=1), labels=classes, zero_division=0.0
    )
    scores = {"precision": precision, "recall": recall, "f1": f1}
    scores["auroc"] = np.array([_auroc(truth == c, probabilities[:, c]) for c in classes])
    scores = {name: np.where(support > 0, values, np.nan) for name, values in scores.items()}
    return scores | {"support": support.astype(np.float64)}


def _auroc(positive: NDArray[np.bool_], probability: Floats) -> float:
    """One-versus-rest area; NaN where only one side has rows."""
    if positive.all() or not positive.any():
        return float("nan")
    return float(roc_auc_score(positive, probability))


def _normalised(probabilities: NDArray[np.floating]) -> Floats:
    """In float64 with rows that sum to one to its precision: float32 rows do not."""
    exact = probabilities.astype(np.float64)
    return np.asarray(exact / exact.sum(axis=1, keepdims=True))


def _mean(values: Floats) -> float:
    """Mean that is NaN when any value is: an undefined AUROC of one class leaves none for all."""
    return float(values.mean()) if len(values) else float("nan")
