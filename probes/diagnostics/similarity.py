"""How alike two feature matrices are, whatever their widths: linear centred kernel alignment (CKA)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from probes.diagnostics.sampling import FeatureSample, Floats
from probes.diagnostics.spectrum import Doubles, cross_products

FEWEST_ROWS = 4
"""Rows that the debiased estimate needs."""


class Alignment(NamedTuple):
    """Similarity of two feature matrices.

    Attributes:
        cka: Linear CKA, between 0 and 1; NaN if either is constant.
        debiased: The same without the bias of few rows; it may lie below 0. NaN for fewer than 4 rows.
        rows: Images that both have.
    """

    cka: float
    debiased: float
    rows: int


def align_samples(first: FeatureSample, second: FeatureSample) -> Alignment:
    """CKA of two feature matrices over the images that are in both samples."""
    place = {sample: row for row, sample in enumerate(second.sample_ids)}
    common = [(row, place[sample]) for row, sample in enumerate(first.sample_ids) if sample in place]
    if not common:
        return Alignment(float("nan"), float("nan"), 0)
    mine, other = np.array(common).T
    return Alignment(*linear_cka(first.values[mine], second.values[other]), len(common))


def linear_cka(first: Floats, second: Floats) -> tuple[float, float]:
    """Linear CKA, biased and debiased, of the same n rows in two spaces, (n, d) and (n, e).

    ``|X'Y|^2 / (|X'X| |Y'Y|)`` of centred X and Y, with Frobenius norms (Kornblith, Norouzi, Lee & Hinton 2019, ICML,
    PMLR 97, 3519): matrices of d x e and not of n x n. The debiased one takes the unbiased estimate of each of the
    three (Song et al. 2012, JMLR 13, 1393), which for linear kernels needs but the squared lengths of the rows besides.
    """
    X, Y = first - first.mean(axis=0, dtype=np.float64), second - second.mean(axis=0, dtype=np.float64)
    xy, xx, yy = (_overlap(one, other) for one, other in ((X, Y), (X, X), (Y, Y)))
    return tuple(_ratio(*three) for three in zip(xy, xx, yy, strict=True))  # type: ignore[return-value]


def _overlap(X: Doubles, Y: Doubles) -> tuple[float, float]:
    """``|X'Y|^2`` of centred rows, and its unbiased counterpart."""
    n = len(X)
    biased = float((cross_products(X, Y) ** 2).sum())
    if n < FEWEST_ROWS:
        return biased, float("nan")
    lengths_x, lengths_y = (np.einsum("ij,ij->i", Z, Z) for Z in (X, Y))
    diagonal = n / (n - 2) * float(lengths_x @ lengths_y)
    return biased, biased - diagonal + float(lengths_x.sum() * lengths_y.sum()) / ((n - 1) * (n - 2))


def _ratio(xy: float, xx: float, yy: float) -> float:
    return xy / float(np.sqrt(xx * yy)) if xx > 0 and yy > 0 else float("nan")
