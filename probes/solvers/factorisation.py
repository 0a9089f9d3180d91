"""The eigendecomposition of training rows: shared by the folds and the heads of one training subset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from probes.solvers.scaling import Doubles, Floats, Scaling, StandardisedRows, find_scaling, standardise

Indices = NDArray[np.int64]

BLOCK_ROWS = 2048
"""Rows that are standardised in double precision at a time."""


@dataclass(frozen=True)
class Axes:
    """Coordinates of centred rows, ``z = (x - mean) @ components.T``.

    Attributes:
        mean: float64 (d,).
        components: float64 (k, d).
    """

    mean: Doubles
    components: Doubles

    def project(self, X: Floats) -> Floats:
        """Coordinates of rows (n, d), float32 (n, k)."""
        return (X - self.mean.astype(np.float32)) @ self.components.T.astype(np.float32)

    def to_input_space(self, coef: NDArray[np.floating]) -> NDArray[np.floating]:
        """Coefficients (n_classes, d) of centred rows from those of the coordinates, (n_classes, k)."""
        return coef @ self.components


@dataclass(frozen=True)
class Factorisation:
    """Correlations of standardised rows: ``R = V' diag(l) V`` is the mean of their ``z z'``.

    Attributes:
        scaling: From rows to standardised rows.
        eigenvalues: float64 (k,), `l`: the positive ones, largest first; k is at most d and n - 1.
        directions: float64 (k, d), `V`.
        shrinkage: Of R towards a multiple of the identity, by Ledoit & Wolf (2004, Journal of Multivariate Analysis
            88, 365).
    """

    scaling: Scaling
    eigenvalues: Doubles
    directions: Doubles
    shrinkage: float

    def axes(self, scaling: Scaling) -> Axes:
        """Rows as standardised by `scaling`, turned to the directions: those of other rows do nearly as well."""
        return Axes(scaling.mean, self.directions / scaling.scale)


class SharedRows:
    """What heads share of the rows of one feature matrix, computed once for all threads.

    Args:
        values: float32 (n, d).
    """

    def __init__(self, values: Floats) -> None:
        self._values = values
        self._factorised: dict[bytes, Factorisation] = {}
        self._standardised: WeakValueDictionary[bytes, StandardisedRows] = WeakValueDictionary()
        self._locks: dict[bytes, Lock] = {}

    def exact(self, rows: Indices) -> Factorisation:
        """The factorisation of some rows, whatever their order."""
        rows = np.sort(rows)
        name = rows.tobytes()
        with self._locks.setdefault(name, Lock()):
            if name not in self._factorised:
                self._factorised[name] = factorise(self._values[rows])
            return self._factorised[name]

    def similar(self, rows: Indices, pool: Indices) -> Factorisation:
        """That of a pool which some rows are a subset of, if its directions are a basis; else their own.

        Fewer rows than columns are better served by their own: it has fewer directions than rows.
        """
        width = self._values.shape[1]
        if len(rows) >= width and len((found := self.exact(pool)).directions) == width:
            return found
        return self.exact(rows)

    def standardised(self, rows: Indices) -> StandardisedRows:
        """Some rows in the order given, standardised; they are let go when no head uses them any more.

        Heads that learn side by side from the same matrix find it in the cache that the cores share.
        """
        name = rows.tobytes()
        with self._locks.setdefault(name, Lock()):
            found = self._standardised.get(name)
            if found is None:
                found = self._standardised[name] = standardise(self._values[rows])
            return found


def factorise(X: NDArray[np.floating]) -> Factorisation:
    """Factorise finite rows (n, d) in double precision, block by block, by the smaller Gram matrix."""
    n, d = X.shape
    scaling = find_scaling(X)
    blocks = ((X[i : i + BLOCK_ROWS] - scaling.mean) / scaling.scale for i in range(0, n, BLOCK_ROWS))
    if n < d:
        Z = np.concatenate(list(blocks))
        gram, squares = Z @ Z.T, (Z**2).sum(axis=1)
    else:
        gram, squares = _sum_products(blocks, d)
    eigenvalues, vectors = _decompose(gram / n, max(n, d))
    directions = vectors.T if n >= d else (vectors.T @ Z) / np.sqrt(n * eigenvalues)[:, None]
    return Factorisation(scaling, eigenvalues, directions, _shrink(eigenvalues, squares, d))


def _sum_products(blocks: Iterable[Doubles], d: int) -> tuple[Doubles, Doubles]:
    """Sum of ``z z'``, (d, d), and the squared length of each row, (n,)."""
    gram, squares = np.zeros((d, d)), []
    for block in blocks:
        gram += block.T @ block
        squares.append((block**2).sum(axis=1))
    return gram, np.concatenate(squares)


def _decompose(gram: Doubles, size: int) -> tuple[Doubles, Doubles]:
    """Positive eigenvalues of a Gram matrix, largest first, and their vectors as columns."""
    eigenvalues, vectors = np.linalg.eigh(gram)
    # Standardised rows have an eigenvalue of 1 or more, unless they are rounding errors of constants.
    kept = eigenvalues > size * np.finfo(np.float64).eps * max(eigenvalues[-1], 1.0)
    return eigenvalues[kept][::-1], vectors[:, kept][:, ::-1]


def _shrink(eigenvalues: Doubles, squares: Doubles, d: int) -> float:
    """Shrinkage of R towards a multiple of the identity (Ledoit & Wolf 2004), from the squared lengths of the rows.

    It is the variance of R over its squared distance from that target, both per column. scikit-learn's own function
    would form two more (d, d) products.
    """
    total = (eigenvalues**2).sum()
    distance = total / d - (eigenvalues.sum() / d) ** 2
    variance = (np.mean(squares**2) - total) / (len(squares) * d)
    return float(min(variance / distance, 1.0)) if distance > 0 else 0.0
