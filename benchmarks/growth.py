"""How cost grows with the number of images, from 10^3 to 10^6: python -m benchmarks.growth [CURVE ...].

Figures go to results/growth.json, the plot of all of them to docs/images/growth.svg. Naming curves measures only those.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.embeddings import make_features
from benchmarks.images import GeneratedImages
from benchmarks.record import RESULTS
from benchmarks.row import seconds
from benchmarks.stored import make_store, write_features
from featurestore.store.features import FeatureSet

FIGURE = Path(__file__).parents[1] / "docs" / "images" / "growth.svg"
D, N_CLASSES, N_TEST = 256, 4, 1_000
SIZES = (1_000, 10_000, 100_000, 1_000_000)
LARGEST_UNIQUE = 100_000
"""Rows that are drawn at random; larger matrices repeat them, which changes no cost of what is measured here."""

Curve = list[tuple[int, float]]
"""(rows, seconds), by rows."""


def time_extraction(n: int) -> float:
    """Tiny images that need no decoding through a tiny backbone: what remains is the cost of a row."""
    from featurestore.extraction.extract import extract_features
    from featurestore.extraction.requests import ExtractionOptions
    from featurestore.store import open_store

    with TemporaryDirectory() as place:
        store, options = open_store(f"{place}/store.zarr", mode="a"), ExtractionOptions(weights="random:0")
        report = extract_features(GeneratedImages(n), ["timm:test_efficientnet"], ["resize=32"], store, options)
    return report.seconds - report.costs.load


def time_reading(n: int) -> float:
    """The whole matrix from the page cache, checksums verified."""
    with TemporaryDirectory() as place:
        arrays = write_features(make_store(f"{place}/store.zarr", n), _features(n).values, "float16")
        return seconds(arrays.read)


def time_sweep(n: int) -> float:
    """12 linear heads: 4 label fractions x 3 seeds, 100 epochs of the study's optimiser."""
    from probes.sweep.sweep import sweep

    features = _features(n, n_test=N_TEST)
    return seconds(lambda: sweep(features, ["linear"], protocol="paper", fractions=(10, 30, 50, 100), seeds=3))


def time_projection(n: int) -> float:
    """Principal components, then UMAP with a seed."""
    from probes.projection import project

    features = _features(n)
    return seconds(lambda: project(features))


CURVES: dict[str, tuple[Callable[[int], float], tuple[int, ...]]] = {
    "extraction without image cost": (time_extraction, SIZES),
    f"store read, {D} x float16": (time_reading, SIZES),
    "sweep of 12 linear heads, 100 epochs": (time_sweep, SIZES),
    "PCA-10 + UMAP with a seed": (time_projection, SIZES[:3]),
}
"""Title -> what is timed, and for which numbers of rows. At 10^6 rows UMAP takes too long."""


@cache
def _unique() -> FeatureSet:
    return make_features(LARGEST_UNIQUE, N_TEST, D, N_CLASSES)


def _features(n: int, n_test: int = 0) -> FeatureSet:
    """`n` training rows, and test rows after them."""
    known = _unique()
    rows = np.append(np.resize(np.arange(LARGEST_UNIQUE), n), LARGEST_UNIQUE + np.arange(n_test))
    table = replace(
        known.table,
        sample_ids=tuple(f"{row:07d}" for row in range(len(rows))),
        labels={"kind": known.table.labels["kind"][rows]},
        splits=known.table.splits[rows],
        fingerprints=known.table.fingerprints[rows],
    )
    return replace(known, values=known.values[rows], table=table)


def measure_curve(title: str) -> Curve:
    """Seconds at each size, after one run of the smallest that pays for imports and compilation."""
    run, sizes = CURVES[title]
    run(sizes[0])
    curve = []
    for n in sizes:
        curve.append((n, run(n)))
        print(f"{title}: {n:>9,} rows  {curve[-1][1]:9.3f} s", flush=True)
    return curve


def draw(curves: dict[str, Curve], path: Path) -> None:
    """One panel a curve, both axes logarithmic; the thin line is proportional to the number of rows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from probes.plotting import PAGE, STYLE

    with mpl.rc_context(STYLE | {"text.parse_math": True}):  # powers of ten on the axes
        figure = Figure(figsize=(PAGE, 0.62 * PAGE))
        panels = figure.subplots(2, 2, sharex=True)
        for panel, (title, curve) in zip(panels.flat, curves.items(), strict=False):
            n, spent = np.array(curve).T
            panel.loglog(n, spent[-1] * n / n[-1], color="#b8b8b8", linewidth=0.8)
            panel.loglog(n, spent, marker="o")
            panel.set_xticks(SIZES)
            panel.set_title(title)
            panel.set_ylabel("seconds")
        for panel in panels[-1]:
            panel.set_xlabel("rows")
        figure.savefig(path, metadata={"Date": None})


def main(wanted: Sequence[str]) -> None:
    """Measure the curves whose titles begin with one of the words, all without any; then draw all that are known."""
    path = RESULTS / "growth.json"
    curves: dict[str, Curve] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for title in CURVES:
        if not wanted or title.startswith(tuple(wanted)):
            curves[title] = measure_curve(title)
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(curves, indent=2) + "\n", encoding="utf-8")
    draw({title: curves[title] for title in CURVES if title in curves}, FIGURE)


if __name__ == "__main__":
    main(sys.argv[1:])
