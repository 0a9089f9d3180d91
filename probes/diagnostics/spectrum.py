"""How many directions the features use: the spectrum of their singular values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from probes.diagnostics.sampling import BLOCK_ROWS, Floats

Doubles = NDArray[np.float64]


def cross_products(first: Floats | Doubles, second: Floats | Doubles) -> Doubles:
    """``first.T @ second`` in double precision, float64 (d, e), of rows (n, d) and (n, e)."""
    products = np.zeros((first.shape[1], second.shape[1]))
    for start in range(0, len(first), BLOCK_ROWS):
        span = slice(start, start + BLOCK_ROWS)
        products += first[span].astype(np.float64).T @ second[span].astype(np.float64)
    return products


def singular_values(centred: Floats) -> Doubles:
    """Singular values of centred rows (n, d), the largest first, float64 (min(n, d),).

    They are roots of the eigenvalues of the smaller of the two matrices of products, which is all that is held. Those
    below the rounding error of its largest eigenvalue are 0.
    """
    rows = centred if len(centred) >= centred.shape[1] else centred.T
    eigenvalues = np.linalg.eigvalsh(cross_products(rows, rows))[::-1]
    floor = len(eigenvalues) * np.finfo(np.float64).eps * eigenvalues.max(initial=0)
    return np.sqrt(np.where(eigenvalues > floor, eigenvalues, 0.0))


def effective_rank(values: Doubles) -> float:
    """Effective rank of a matrix from its singular values: ``exp(-sum p log p)``, ``p = s / sum s``.

    Roy & Vetterli 2007 (EUSIPCO, 606); as a measure of features, RankMe of Garrido et al. 2023 (ICML, PMLR 202, 10929).

    Returns:
        Between 1 and the number of singular values; 0 for a matrix of zeros.
    """
    positive = values[values > 0]
    if not len(positive):
        return 0.0
    shares = positive / positive.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
