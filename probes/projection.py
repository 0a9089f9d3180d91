"""Features as points in a plane: principal components, then UMAP (Section 2.3 of the study). Labels never enter."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ProbeError, UsageError
from featurestore.samples import UNLABELLED
from featurestore.store.dependants import KEYS, list_keys
from featurestore.store.features import FeatureSet
from featurestore.store.key import digest
from featurestore.versions import library_versions
from probes.solvers.backend import backend_versions, is_accelerated
from probes.solvers.scaling import find_exponent, rescale

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

Floats = NDArray[np.float32]

KIND = "projection"
"""Kind of the projections in a store."""

LARGEST = 1e36
"""Of feature values: sums of larger ones may pass the end of float32."""

FEWEST_ROWS = 4
"""Fewer points than this have no neighbourhood that UMAP could keep: they are shown by their principal components."""


@dataclass(frozen=True)
class Projection:
    """Features of n images as points in a plane.

    Attributes:
        xy: float32 (n, 2), UMAP coordinates; they have no unit.
        pca: float32 (n, k), principal components; k is at most the number asked for, n - 1 and d.
        explained: float64 (k,), share of the variance that each component explains.
        parameters: Parameters of `project`, the initialisation, and the versions of the libraries.
    """

    xy: Floats
    pca: Floats
    explained: NDArray[np.float64]
    parameters: Mapping[str, Any]


def project(
    features: FeatureSet, *, n_components: int = 10, n_neighbors: int = 15, min_dist: float = 0.1, seed: int = 0
) -> Projection:
    """Principal components, then UMAP on them; repeatable for one seed on one machine.

    UMAP starts from the first two components, which keeps the global structure and works for any number of rows
    (Kobak & Linderman 2021, Nature Biotechnology 39, 156). Neighbours are exact.

    Args:
        features: (n, d), finite.
        n_components: Principal components, as in Section 2.3 of the study.
        n_neighbors: Neighbours that UMAP keeps together; n - 1 if there are fewer rows.
        min_dist: Smallest distance of points in the plane, in [0, 1].
        seed: Seed of UMAP.

    Raises:
        ProbeError: There are no features, or some are not finite.
        UsageError: A parameter out of its range.
    """
    _check_parameters(n_components, n_neighbors, min_dist)
    check_finite(features.values, features.table.name)
    pca, explained = principal_components(features.values, n_components)
    parameters = {"n_components": n_components, "n_neighbors": n_neighbors, "min_dist": min_dist, "seed": seed}
    xy = _umap(pca, n_neighbors, min_dist, seed)
    libraries = library_versions("projection") | backend_versions()
    return Projection(xy, pca, explained, parameters | {"init": "pca"} | libraries)


def cached_projection(store: FeatureStore, features: FeatureSet, **options: Any) -> Projection:
    """The stored projection of exactly these values, or a new one that is stored; options as in `project`."""
    parameters = (project.__kwdefaults__ or {}) | options
    identity = {
        "key": features.key.sha256,
        "pooling": features.pooling,
        "shape": list(features.values.shape),
        "values": hashlib.sha256(np.ascontiguousarray(features.values, dtype="<f4").data).hexdigest(),
    }
    name = digest(identity | parameters | library_versions("projection") | backend_versions())
    if (found := store.get_cached(KIND, name)) is not None:
        arrays = found.arrays
        return Projection(arrays["xy"], arrays["pca"], arrays["explained"], found.attributes["parameters"])
    made = project(features, **options)
    arrays = {"xy": made.xy, "pca": made.pca, "explained": made.explained}
    names = {"dataset": features.table.name, "variant": features.variant, "backbone": features.backbone}
    of = names | {KEYS: list_keys(features.key)}
    store.put_cached(KIND, name, arrays, identity | of | {"parameters": dict(made.parameters)})
    return made


def principal_components(values: Floats, n_components: int) -> tuple[Floats, NDArray[np.float64]]:
    """Scores of the first principal components; each component's largest loading is positive.

    Args:
        values: (n, d); n and d at least 1.
        n_components: Number of components; n - 1 or d where that is smaller.

    Returns:
        Scores, float32 (n, k), and shares of the variance, float64 (k,); both are zero for constant features.
    """
    n, d = values.shape
    k = min(n_components, n - 1, d)
    # Centred first: the covariance of float32 features with a large mean would lose its digits.
    centred = values - values.mean(axis=0, dtype=np.float64).astype(np.float32)
    if not centred.any():
        return np.zeros((n, k), dtype=np.float32), np.zeros(k)
    exponent = find_exponent(centred)
    from sklearn.decomposition import PCA

    pca = PCA(k, svd_solver="covariance_eigh" if n > d else "full")
    scores = np.ldexp(pca.fit_transform(np.ldexp(centred, -exponent)), exponent)
    return np.asarray(scores, dtype=np.float32), np.asarray(pca.explained_variance_ratio_, dtype=np.float64)


def balanced_sample(labels: NDArray[np.int64], seed: int = 0, *, most: int = 2000) -> NDArray[np.int64]:
    """Rows to display of a set: a class-balanced random sample (Section 2.3 of the study).

    Args:
        labels: int64 (n,); `UNLABELLED` rows count as a class, but do not make the others smaller.
        seed: Seed of the sample.
        most: Rows of a class at most, to keep a figure readable.

    Returns:
        Sorted rows: as many of each class as the rarest class has.
    """
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(labels, return_counts=True)
    rarest = min(counts[classes != UNLABELLED], default=len(labels))
    size = min(int(rarest), most)
    rows = [np.flatnonzero(labels == c) for c in classes]
    drawn = [rng.permutation(of_class)[:size] for of_class in rows]
    return np.sort(np.concatenate(drawn)) if drawn else np.zeros(0, dtype=np.int64)


def _umap(pca: Floats, n_neighbors: int, min_dist: float, seed: int) -> Floats:
    """UMAP coordinates, float32 (n, 2)."""
    (points,) = rescale(pca)
    points = np.pad(points, ((0, 0), (0, max(0, 2 - pca.shape[1]))))
    if len(points) < FEWEST_ROWS or not points.any():
        return points[:, :2].copy()
    neighbours = min(n_neighbors, len(points) - 1)
    with _quiet():
        from umap import UMAP

        reducer = UMAP(
            n_neighbors=neighbours,
            min_dist=min_dist,
            # The same start: cuML does not know the word, and umap would run on the CPU instead.
            init=points[:, :2] if is_accelerated() else "pca",
            random_state=seed,
            n_jobs=1,
            # Handed over so that UMAP need not compile its approximate search, which takes longer than all the rest.
            precomputed_knn=_nearest(points, neighbours),
        )
        return np.asarray(reducer.fit_transform(points), dtype=np.float32)


def _nearest(points: Floats, k: int) -> tuple[NDArray[np.int32], Floats]:
    """Rows of and distances to the k nearest points, each (n, k); a point is its own first neighbour."""
    from scipy.spatial import KDTree

    distances, rows = KDTree(points).query(points, k=k, workers=-1)
    return rows.astype(np.int32), distances.astype(np.float32)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide what umap says of things that are not used: its TensorFlow variant, and adding points afterwards."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ImportWarning)
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\]")
        yield


def _check_parameters(n_components: int, n_neighbors: int, min_dist: float) -> None:
    if n_components < 1 or n_neighbors < 2 or not 0 <= min_dist <= 1:
        raise UsageError(
            "a parameter of the projection is out of its range",
            where=f"n_components={n_components}, n_neighbors={n_neighbors}, min_dist={min_dist}",
            hint="Give n_components >= 1, n_neighbors >= 2 and min_dist in [0, 1].",
        )


def check_finite(values: Floats, where: str) -> None:
    """Refuse features that no distance or mean can be computed of.

    Raises:
        ProbeError: There are no features, or some are not finite, or so large that sums of them would not be.
    """
    if values.size == 0:
        raise ProbeError("there are no features", where=where, hint="Extract some images.")
    if not np.isfinite(values).all():
        raise ProbeError(
            f"{int((~np.isfinite(values)).any(axis=1).sum())} feature rows are not finite",
            where=where,
            hint="Extract them again with --dtype float32.",
        )
    if (largest := float(np.abs(values).max())) > LARGEST:
        raise ProbeError(
            f"there are feature values of {largest:.1e}: sums of them do not fit into float32",
            where=where,
            hint="Divide the features by a constant, or look for what is wrong with the backbone.",
        )
