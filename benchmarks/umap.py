"""The projection: principal components, and UMAP's first call in a process, against the plain libraries."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.embeddings import make_features
from benchmarks.row import Row, seconds, time_pairs

N, D, N_COMPONENTS, SEED = 10_000, 768, 10, 0
N_PCA = 100_000
PAIRS = 3
N_SAMPLE = 2_000
"""Points whose neighbourhoods are compared."""

SAME_TRUST = 0.01
"""Difference of trustworthiness that is none."""


class Projected(NamedTuple):
    """UMAP's coordinates, (n, 2), of principal components, (n, k), and the seconds from both imports on."""

    seconds: float
    pca: NDArray[np.float32]
    xy: NDArray[np.float32]


def measure() -> Iterator[Row]:
    """UMAP in fresh processes, in turn with plain umap-learn; then the components alone."""
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        pairs = [(pool.apply(project_ours), pool.apply(project_plainly)) for _ in range(PAIRS)]
    ratio = median(ours.seconds / plain.seconds for ours, plain in pairs)
    trust, plain_trust = (_trust(one) for one in pairs[0])
    verdict = "equal" if abs(trust - plain_trust) < SAME_TRUST else "NOT EQUAL"
    yield Row(
        f"UMAP's first call in a process, {N:,} points x {D} features through PCA-{N_COMPONENTS}",
        "s",
        median(ours.seconds for ours, _ in pairs),
        ratio,
        0.5,
        at_most=True,
        peers={"umap-learn": median(plain.seconds for _, plain in pairs)},
        note=f"trustworthiness {trust:.3f}, plain {plain_trust:.3f}: {verdict}; same components and seed",
    )
    yield _compare_components()


def project_ours() -> Projected:
    """Our projection, in a process that has not imported umap."""
    from probes.projection import project

    features = make_features(N, 0, D, 4)
    found = []
    wall = seconds(lambda: found.append(project(features, n_components=N_COMPONENTS, seed=SEED)))
    return Projected(wall, found[0].pca, found[0].xy)


def project_plainly() -> Projected:
    """umap-learn with its defaults and a seed, on the same components."""
    from probes.projection import principal_components

    values = make_features(N, 0, D, 4).values
    found = []

    def run() -> None:
        pca, _ = principal_components(values, N_COMPONENTS)
        from umap import UMAP

        found.append((pca, UMAP(random_state=SEED).fit_transform(pca)))

    wall = seconds(run)
    return Projected(wall, *found[0])


def _trust(projected: Projected) -> float:
    """Trustworthiness of a sample of the points."""
    from sklearn.manifold import trustworthiness

    rows = np.random.default_rng(0).permutation(N)[:N_SAMPLE]
    return float(trustworthiness(projected.pca[rows], projected.xy[rows], n_neighbors=15))


def _compare_components() -> Row:
    """Principal components by the covariance, against scikit-learn's choice of a solver."""
    from sklearn.decomposition import PCA

    from probes.projection import principal_components

    values = make_features(N_PCA, 0, D, 4).values
    plain = PCA(N_COMPONENTS, random_state=SEED)
    times = time_pairs(partial(principal_components, values, N_COMPONENTS), partial(plain.fit_transform, values), PAIRS)
    return Row(
        f"PCA-{N_COMPONENTS} of {N_PCA:,} x {D}",
        "s",
        median(times.ours),
        times.speedup,
        peers={"scikit-learn PCA": median(times.other)},
        note=f"exact, by the covariance; the solver that scikit-learn chose: {plain._fit_svd_solver}",
    )
