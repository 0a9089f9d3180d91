"""Linear heads on features that outgrow memory: one pass over the store serves all heads that are fitted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from featurestore.store.features import FeatureMatrix
from probes.heads.base import weigh_classes
from probes.heads.linear import FINAL_TOL, LinearProbe
from probes.heads.registry import HEADS
from probes.solvers.backend import array_library
from probes.solvers.factorisation import Axes
from probes.solvers.logistic import Problems, solve
from probes.solvers.network import ClassIndex, Layers, initialise
from probes.solvers.optimisers import LabelledRows, Schedule, descend
from probes.solvers.scaling import Floats, Scaling, find_scaling
from probes.sweep.memory import in_memory
from probes.sweep.splits import Rows
from probes.sweep.tasks import Task

BUFFER_BYTES = 2**26
"""Values, as float32, among which rows are shuffled; a few such buffers live at a time."""

BLOCK_BYTES = 2**24
"""Values, as float32, of a block of rows in a pass that goes through them in order."""

SAMPLE_ROWS = 2**14
"""Training rows whose correlations turn the coordinates of the solver."""

HEADS_TOGETHER = 16
"""Heads that share the passes of the solver; the weights of the rows and the coordinates of each take memory."""


def check_heads(features: FeatureMatrix, heads: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse heads that need all features in memory, where these stay in the store.

    Raises:
        ProbeError: The features stay in the store, and a head is not ``linear``, or whitens.
    """
    whole = [
        head
        for head in heads
        if HEADS.get(head) is not LinearProbe or options.get(head, {}).get("whitening") is not None
    ]
    if whole:
        in_memory([features], f"the head {whole[0]!r} needs")


def describe_streaming(features: FeatureMatrix, protocol: str) -> dict[str, Any]:
    """What every run on features that stay in the store has to state."""
    if (block := features.block_rows) is None:
        return {}
    paper = f"rows shuffled in buffers of {max(block, _buffer_rows(features))}, each of random blocks of {block}"
    return {"streamed": paper if protocol == "paper" else "all rows in every step, C not cross-validated"}


def fit_heads(features: FeatureMatrix, tasks: Sequence[Task], pool: Executor) -> list[LinearProbe]:
    """The linear heads of tasks of one protocol, each fitted on its own training rows.

    ``cv`` finds the same optimum as `LinearProbe.fit`, at the only `C` that is given, else at the default one:
    where rows outgrow memory, there are far more of them than features, and the penalty hardly matters. ``paper`` takes
    as many steps from the same initial weights, but rows are shuffled within buffers of random blocks of the store.

    Args:
        features: FeatureMatrix (n, d).
        tasks: Tasks of the head ``linear``.
        pool: Threads, each with one thread of linear algebra.
    """
    fits = [_Fit(features, task) for task in tasks]
    for span, values in features.blocks(_rows(features, BLOCK_BYTES)):
        list(pool.map(partial(_Fit.scan, span=span, values=values), fits))
    if all(fit.head.protocol == "paper" for fit in fits):
        _descend(features, fits, pool)
    else:
        for alike in _group(fits):
            _solve(features, alike)
    return [fit.head for fit in fits]


def predict_heads(features: FeatureMatrix, heads: Sequence[LinearProbe], rows: Sequence[Rows]) -> list[Floats]:
    """Probabilities of some rows by each head, (len(rows[i]), len(heads[i].classes_)), in one pass."""
    found = [np.empty((len(some), len(head.classes_)), np.float32) for head, some in zip(heads, rows, strict=True)]
    for span, values in features.blocks(_rows(features, BLOCK_BYTES)):
        for head, some, probabilities in zip(heads, rows, found, strict=True):
            inside = (some >= span.start) & (some < span.stop)
            if inside.any():
                probabilities[inside] = head.predict_proba(values[some[inside] - span.start])
    return found


class _Fit:
    """One head, its training rows, and how far it has come.

    Attributes:
        head: The head; it is unfitted until `finish`.
        inside: bool (n,), training rows.
        class_weights: float32 (n_classes,).
    """

    def __init__(self, features: FeatureMatrix, task: Task) -> None:
        self.head = LinearProbe(**task.params)
        self._labels = features.table.labels[task.scheme]
        self.head.classes_ = np.unique(self._labels[task.train])
        self.head.n_features_in_ = features.shape[1]
        self.inside = np.zeros(len(self._labels), dtype=bool)
        self.inside[task.train] = True
        self.class_weights = weigh_classes(self.head.class_weight, self.head.classes_, self.targets(task.train))
        self._scaler = StandardScaler()

    def scan(self, span: slice, values: Floats) -> None:
        """Take the training rows among some rows into the mean and the variance."""
        if self.inside[span].any():
            self._scaler.partial_fit(values[self.inside[span]])

    @property
    def scaling(self) -> Scaling:
        """Standardisation on the training rows; known when all rows were scanned."""
        return Scaling(self._scaler.mean_, self._scaler.scale_)

    def targets(self, rows: slice | Rows) -> ClassIndex:
        """Class index of each row; meaningless for a row without a known label."""
        classes = self.head.classes_
        return np.minimum(np.searchsorted(classes, self._labels[rows]), len(classes) - 1)

    def finish(self, axes: Scaling | Axes, coef: Floats, intercept: Floats, **chosen: Any) -> None:
        """Make the head a fitted one, from coefficients of standardised or rotated rows."""
        self.head.mean_ = axes.mean.astype(np.float32)
        self.head.coef_ = axes.to_input_space(coef).astype(np.float32)
        self.head.intercept_ = intercept.astype(np.float32)
        self.head.chosen_ = chosen


def _rows(features: FeatureMatrix, nbytes: int) -> int:
    """How many rows of float32 are so many bytes, at least 1."""
    return max(1, nbytes // (features.shape[1] * np.dtype(np.float32).itemsize))


def _buffer_rows(features: FeatureMatrix) -> int:
    return _rows(features, BUFFER_BYTES)


def _descend(features: FeatureMatrix, fits: Sequence[_Fit], pool: Executor) -> None:
    """Protocol ``paper``: all heads learn from a buffer before the next one is read."""
    runs = [_Descent(fit) for fit in fits]
    order = np.random.default_rng(0)  # one order of the blocks for all: it must not depend on which heads are fitted
    for epoch in range(max(fit.head.epochs for fit in fits)):
        left = [run for run in runs if run.fit.head.epochs > epoch]
        for rows, values in features.shuffled_blocks(_buffer_rows(features), order):
            list(pool.map(partial(_Descent.learn, rows=rows, values=values), left))
        for run in left:
            run.end_epoch()
    for run in runs:
        ((coef, intercept),) = run.layers
        run.fit.finish(run.fit.scaling, coef, intercept, epochs=run.fit.head.epochs)


class _Descent:
    """A head on its way down.

    Rows that do not fill a batch wait for the next buffer: an epoch has as many steps as in memory.
    """

    def __init__(self, fit: _Fit) -> None:
        head = fit.head
        self.fit, self._scaling = fit, fit.scaling
        self._rng = np.random.default_rng(head.random_state)
        self.layers: Layers = initialise([head.n_features_in_, len(head.classes_)], self._rng)
        self._schedule = Schedule(head.learning_rate, head.batch_size, epochs=1)
        self._waiting = np.empty((0, head.n_features_in_), np.float32), np.empty(0, np.intp)

    def learn(self, rows: Rows, values: Floats) -> None:
        """Learn once from the training rows among some rows, as far as they fill batches."""
        chosen = self._rng.permutation(np.flatnonzero(self.fit.inside[rows]))
        Z = np.concatenate([self._waiting[0], self._scaling.project(values[chosen])])
        targets = np.concatenate([self._waiting[1], self.fit.targets(rows[chosen])])
        whole = len(Z) - len(Z) % self._schedule.batch_size
        self._step(Z[:whole], targets[:whole])
        self._waiting = Z[whole:].copy(), targets[whole:]

    def end_epoch(self) -> None:
        """Learn from the rows that are waiting."""
        self._step(*self._waiting)
        self._waiting = self._waiting[0][:0], self._waiting[1][:0]

    def _step(self, Z: Floats, targets: ClassIndex) -> None:
        rows = LabelledRows(Z, targets, self.fit.class_weights)
        self.layers = descend(self.layers, rows, self._schedule, self._rng)


def _group(fits: Sequence[_Fit]) -> Iterator[list[_Fit]]:
    """Heads that know the same classes, and no more of them than may share a pass."""
    by_classes: dict[bytes, list[_Fit]] = {}
    for fit in fits:
        by_classes.setdefault(fit.head.classes_.tobytes(), []).append(fit)
    for alike in by_classes.values():
        for start in range(0, len(alike), HEADS_TOGETHER):
            yield alike[start : start + HEADS_TOGETHER]


def _solve(features: FeatureMatrix, fits: Sequence[_Fit]) -> None:
    """Protocol ``cv``: every head is a weighting of all rows, and all are problems of one solve."""
    everything, n_classes = slice(None), len(fits[0].head.classes_)
    targets = fits[0].targets(everything)
    Cs = [_choose_C(fit.head) for fit in fits]
    weights = np.zeros((len(fits), len(targets)), dtype=np.float32)
    for row, C, fit in zip(weights, Cs, fits, strict=True):
        row[fit.inside] = (C * fit.class_weights)[targets[fit.inside]]
    rows = StreamedRows(features, np.any([fit.inside for fit in fits], axis=0), [fit.scaling for fit in fits])
    found = solve(rows, Problems(targets, n_classes, weights, [1.0]), tol=FINAL_TOL)[:, 0]
    solver = array_library().__name__
    for fit, C, axes, coef in zip(fits, Cs, rows.axes, found, strict=True):
        fit.finish(axes, coef[:, :-1], coef[:, -1], C=C, folds=0, solver=solver)


def _choose_C(head: LinearProbe) -> float:  # noqa: N802  # scikit-learn's name
    """The only candidate, else the `C` of heads that are not cross-validated."""
    return float(head.Cs[0] if len(head.Cs) == 1 else head.default_C)


class StreamedRows:
    """The rows of a store as `probes.solvers.logistic.Rows`; every weighting has its own standardisation.

    The coordinates are principal axes of a sample of the training rows, all of them, so that the optimum does not
    depend on the sample.

    Args:
        features: FeatureMatrix (n, d).
        inside: bool (n,), training rows of any weighting.
        scalings: Of each weighting.

    Attributes:
        axes: Coordinates of each weighting.
    """

    def __init__(self, features: FeatureMatrix, inside: NDArray[np.bool_], scalings: Sequence[Scaling]) -> None:
        xp, (n, d) = array_library(), features.shape
        rows = np.flatnonzero(inside)
        sample = features.take(rows[:: -(-len(rows) // SAMPLE_ROWS)])
        pooled = find_scaling(sample)
        Z = pooled.project(sample)
        variances, vectors = np.linalg.eigh(Z.T @ Z / len(Z))
        self.axes = [Axes(scaling.mean, vectors.T / scaling.scale) for scaling in scalings]
        self.shape = n, d + 1
        self.basis = xp.asarray(np.stack([_basis(axes, axes.mean - pooled.mean) for axes in self.axes]))
        self.variances = xp.asarray(np.append(np.maximum(variances, 0), 1).astype(np.float32))
        self._features, self._centre = features, pooled.mean.astype(np.float32)

    def __iter__(self) -> Iterator[tuple[slice, Any]]:
        for span, values in self._features.blocks(_rows(self._features, BLOCK_BYTES)):
            block = np.ones((len(values), self.shape[1]), dtype=np.float32)
            np.subtract(values, self._centre, out=block[:, :-1])
            yield span, array_library().asarray(block)


def _basis(axes: Axes, offset: NDArray[np.float64]) -> Floats:
    """Coefficients of the coordinates, and the intercept, as those of rows whose centre is `offset` before the mean."""
    k, d = axes.components.shape
    basis = np.zeros((k + 1, d + 1))
    basis[:k, :d] = axes.components
    basis[:k, d] = -axes.components @ offset
    basis[k, d] = 1
    return basis.astype(np.float32)
