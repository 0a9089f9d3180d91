"""Standardised columns, and matrices that start at a cache line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

CACHE_LINE = 64
"""Bytes."""

BLOCK_ROWS = 64
"""Rows whose deviations are formed at a time: they stay in the cache."""


LARGEST = 2.0**40
"""Values below this, and above its inverse, can be squared and summed over any number of columns in float32."""


@dataclass(frozen=True)
class Scaling:
    """Standardised columns, ``z = (x - mean) / scale``.

    Attributes:
        mean: float64 (d,).
        scale: float64 (d,), standard deviations; 1 for a constant column.
    """

    mean: Doubles
    scale: Doubles

    def project(self, X: Floats) -> Floats:
        """Standardised rows, float32 (n, d)."""
        Z = X - self.mean.astype(np.float32)
        Z /= self.scale.astype(np.float32)
        return Z

    def to_input_space(self, coef: NDArray[np.floating]) -> NDArray[np.floating]:
        """Coefficients (n_classes, d) of centred rows from those of standardised rows."""
        return coef / self.scale


@dataclass(frozen=True, eq=False)
class StandardisedRows:
    """Rows and how they were standardised.

    Attributes:
        scaling: From rows to standardised rows.
        values: float32 (n, d), standardised; starts at a cache line.
    """

    scaling: Scaling
    values: Floats


def find_scaling(X: NDArray[np.floating]) -> Scaling:
    """Mean and standard deviation of the columns of rows (n, d), in double precision.

    They are those of scikit-learn's ``StandardScaler``, whose own way of finding them would take a tenth of a sweep.
    """
    n, d = X.shape
    mean = X.sum(axis=0, dtype=np.float64) / n
    squares = np.zeros(d)
    for start in range(0, n, BLOCK_ROWS):
        deviations = X[start : start + BLOCK_ROWS] - mean
        squares += np.einsum("ij,ij->j", deviations, deviations)
    variance = squares / n
    # A constant column has the variance of rounding errors (Chan, Golub & LeVeque 1983, The American Statistician 37).
    eps = np.finfo(np.float64).eps
    constant = variance <= n * eps * variance + (n * mean * eps) ** 2
    return Scaling(mean, np.where(constant, 1.0, np.sqrt(variance)))


def standardise(X: Floats) -> StandardisedRows:
    """Rows (n, d), standardised by their own mean and standard deviation."""
    scaling = find_scaling(X)
    return StandardisedRows(scaling, align(scaling.project(X)))


def rescale(*arrays: Floats) -> tuple[Floats, ...]:
    """The same arrays, all over one power of two where squares would not fit into float32; no digit changes."""
    exponent = find_exponent(*arrays)
    return tuple(np.ldexp(values, -exponent) for values in arrays) if exponent else arrays


def find_exponent(*arrays: Floats) -> int:
    """That of the largest value, as a power of two; 0 if its square fits into float32 anyway."""
    largest = max((float(np.abs(values).max(initial=0)) for values in arrays), default=0.0)
    return 0 if not largest or 1 / LARGEST < largest < LARGEST else int(np.frexp(largest)[1])


def align(values: Floats) -> Floats:
    """A C-contiguous copy that starts at a cache line, as NumPy's arrays do not: loads across two lines cost double.

    Args:
        values: float32.
    """
    space = np.empty(values.nbytes + CACHE_LINE, np.uint8)
    start = -space.ctypes.data % CACHE_LINE
    copy = space[start : start + values.nbytes].view(np.float32).reshape(values.shape)
    copy[...] = values
    return copy


def is_aligned(values: Floats) -> bool:
    """Whether an array is as `align` makes them."""
    return values.flags.c_contiguous and values.ctypes.data % CACHE_LINE == 0
