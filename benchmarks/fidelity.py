"""What engine and precision change: features and scores against torch in fp32, with real weights on real galaxies."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from benchmarks.precisions import native_precisions
from benchmarks.row import Row
from featurestore.datasets import open_dataset
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import FeatureStore, open_store
from featurestore.store.features import FeatureSet
from probes.sweep.sweep import sweep

BACKBONE, VARIANT = "efficientnet-lite0", "full-224"
REFERENCE = ("torch", "fp32")
FRACTIONS, SEEDS = (10, 30, 50, 100), 3
N_NEIGHBOURS = 10
LARGEST_CHANGE = 0.005

Floats = NDArray[np.float32]


def measure() -> Iterator[Row]:
    """One row for each engine and precision: the change of the linear probe's macro-F1; features in the note."""
    precisions = native_precisions()
    choices = [(engine, one) for engine in ("openvino", "torch") for one in precisions if (engine, one) != REFERENCE]
    with TemporaryDirectory() as place:
        store = open_store(f"{place}/store.zarr", mode="a")
        reference = _extract(store, *REFERENCE)
        expected = _scores(reference)
        for engine, precision in choices:
            features = _extract(store, engine, precision)
            found = _scores(features)
            yield Row(
                f"macro-F1 of the linear probe, {len(features.values):,} galaxies, {BACKBONE}, {engine} {precision}",
                "F1",
                float(found.mean()),
                abs(float(found.mean() - expected.mean())),
                LARGEST_CHANGE,
                at_most=True,
                peers={" ".join(REFERENCE): float(expected.mean())},
                note=f"the ratio is the change of the mean of {len(found)} runs; largest change of a run "
                f"{abs(found - expected).max():.4f}; {compare_features(features.values, reference.values)}",
            )


def compare_features(values: Floats, reference: Floats) -> str:
    """Cosine, relative error (largest difference in a row / largest value of the row), and nearest neighbours kept.

    Args:
        values: (n, d), features to judge.
        reference: (n, d), the same rows as they should be.
    """
    norms = np.linalg.norm(values, axis=1) * np.linalg.norm(reference, axis=1)
    cosine = (values * reference).sum(axis=1) / norms
    error = (np.abs(values - reference).max(axis=1) / np.abs(reference).max(axis=1)).max()
    kept = np.mean([len(set(a) & set(b)) for a, b in zip(_nearest(values), _nearest(reference), strict=True)])
    return (
        f"cosine at least {cosine.min():.6f}, mean {cosine.mean():.6f}; largest relative error {error:.1e}; "
        f"{kept / N_NEIGHBOURS:.1%} of the {N_NEIGHBOURS} nearest neighbours are the same"
    )


def _nearest(values: Floats) -> list[list[int]]:
    """The nearest other rows of each row, by Euclidean distance."""
    found: NDArray[np.int64] = NearestNeighbors(n_neighbors=N_NEIGHBOURS).fit(values).kneighbors(return_distance=False)
    rows: list[list[int]] = found.tolist()
    return rows


def _extract(store: FeatureStore, engine: str, precision: str) -> FeatureSet:
    options = ExtractionOptions(engine=engine, precision=precision, dtype="float32")
    (extracted,) = extract_features(open_dataset("first"), [BACKBONE], [VARIANT], store, options).features
    (pooling,) = extracted.entry.shapes
    return extracted.entry.read(pooling)


def _scores(features: FeatureSet) -> NDArray[np.float64]:
    """Macro-F1 on the test rows, of each label fraction and seed."""
    runs = sweep(features, ["linear"], fractions=FRACTIONS, seeds=SEEDS)
    return np.array([run.scores.macro["f1"] for run in runs])
