"""What an image shows of its brightness, noise and size, measured once from its pixels and cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.errors import UnreadableImageError
from featurestore.samples import SampleTable
from featurestore.store.key import digest
from featurestore.versions import library_versions
from probes.diagnostics.covariates import SAMPLE_ID

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.store import FeatureStore

KIND = "nuisance"
"""Kind of the measurements in a store: their first name, so that older stores are read."""

SIGMA = 3.0
"""Standard deviations at which the background is clipped, and above which a pixel is of the object."""

Doubles = NDArray[np.float64]


def measure_image(image: NDArray[Any]) -> dict[str, float]:
    """Quantities of one image (H, W) or (H, W, C), in the units of its pixels; bands are averaged.

    The background is the median of the pixels after clipping at 3 sigma, the noise their scaled median absolute
    deviation. Of the object are pixels more than 3 times the noise above the background; its size is the root of the
    flux-weighted mean squared distance to its centroid, in pixels.

    Returns:
        ``flux`` (sum above the background), ``peak`` (above the background), ``background``, ``noise``, ``size``,
        ``height``, ``width``; NaN where there is no finite pixel, and ``size`` where there is no object.
    """
    from astropy.stats import mad_std, sigma_clipped_stats

    plane = image.astype(np.float64)
    plane = plane.mean(axis=2) if plane.ndim == 3 else plane
    sides = {"height": float(plane.shape[0]), "width": float(plane.shape[1])}
    finite = np.isfinite(plane)
    if not finite.any():
        return dict.fromkeys(("flux", "peak", "background", "noise", "size"), float("nan")) | sides
    _, background, noise = sigma_clipped_stats(plane[finite], sigma=SIGMA, stdfunc=mad_std)
    signal = np.where(finite, plane - background, 0.0)
    brightness = {"flux": signal.sum(), "peak": signal.max(), "background": background, "noise": noise}
    size = _size(np.where(signal > SIGMA * noise, signal, 0.0))
    return {name: float(value) for name, value in brightness.items()} | {"size": size} | sides


def measure_images(
    dataset: ImageDataset, sample_ids: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> pd.DataFrame:
    """Quantities of some images, a line each with its ``sample_id``; NaN for images that cannot be read.

    Where the dataset has boxes, ``box`` is the root of the area of the largest one, in pixels.
    """
    place = {name: row for row, name in enumerate(dataset.table.sample_ids)}
    sides, lines = _box_sides(dataset.table), []
    for done, name in enumerate(sample_ids, start=1):
        row = place.get(name)
        try:
            lines.append({} if row is None else measure_image(dataset.read(row).image) | {"box": sides[row]})
        except UnreadableImageError:
            lines.append({"box": sides[row]})
        if progress:
            progress(done, len(sample_ids))
    frame = pd.DataFrame(lines, columns=[*measure_image(np.zeros((1, 1))), "box"], dtype=np.float64)
    frame.insert(0, SAMPLE_ID, list(sample_ids))
    return frame.drop(columns="box") if dataset.table.boxes is None else frame


def cached_covariates(
    store: FeatureStore,
    table: SampleTable,
    rows: NDArray[np.int64],
    dataset: ImageDataset | None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame | None:
    """The stored quantities of exactly these images, or new ones that are stored.

    Args:
        store: A store opened for writing.
        table: The samples.
        rows: int64 (m,), rows of the table.
        dataset: The images; None if they are not at hand.
        progress: Called with images done and images in all.

    Returns:
        See `measure_images`; None if nothing is stored and there are no images.
    """
    chosen = table.take(rows)
    measured = {"images": chosen.fingerprint, "boxes": _box_digest(chosen), "sigma": SIGMA}
    measured |= _tell_apart(store, table, rows) | library_versions("measurement")
    name = digest(measured)
    if (found := store.get_cached(KIND, name)) is not None:
        return pd.DataFrame({SAMPLE_ID: chosen.sample_ids} | {str(key): column for key, column in found.arrays.items()})
    if dataset is None:
        return None
    frame = measure_images(dataset, chosen.sample_ids, progress)
    arrays = {str(column): frame[column].to_numpy() for column in frame.columns if column != SAMPLE_ID}
    store.put_cached(KIND, name, arrays, {"dataset": table.name})
    return frame


def _size(signal: Doubles) -> float:
    """Root of the mean squared distance to the centroid, weighted by a signal (H, W) of at least 0."""
    flux = signal.sum()
    if flux <= 0:
        return float("nan")
    y, x = np.indices(signal.shape)
    squares = ((axis - (axis * signal).sum() / flux) ** 2 for axis in (y, x))
    return float(np.sqrt((sum(squares) * signal).sum() / flux))


def _tell_apart(store: FeatureStore, table: SampleTable, rows: NDArray[np.int64]) -> dict[str, str]:
    """What names measurements apart from those of earlier versions, where these were of other images.

    They took rows of the table, which lacks unreadable images, for rows of the dataset.
    """
    ids = store.sample_ids(table.name) if table.name in store.datasets() else table.sample_ids
    alike = all(ids[row] == table.sample_ids[row] for row in rows)
    return {} if alike else {"rows": "by sample id"}


def _box_sides(table: SampleTable) -> Doubles:
    """Root of the area of the largest box of each row, float64 (n,); NaN for rows without a box."""
    sides = np.full(len(table), np.nan)
    if table.boxes is not None:
        x0, y0, x1, y1 = table.boxes.xyxy[~table.boxes.crowd].astype(np.float64).T
        np.fmax.at(sides, table.boxes.row[~table.boxes.crowd], np.sqrt((x1 - x0) * (y1 - y0)))
    return sides


def _box_digest(table: SampleTable) -> list[str]:
    return [] if table.boxes is None else [f"{side:.6g}" for side in _box_sides(table)]
