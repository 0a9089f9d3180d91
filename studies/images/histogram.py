"""Histograms of raw pixel values, whose bins follow the dynamic range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

N_BINS = 64
"""Bins of a histogram; more of them would show the noise of the counts."""

LOG_DECADES = 2.0
"""From this dynamic range on, the bins are wider for brighter pixels."""

Floats = NDArray[np.float64]


class Histogram(NamedTuple):
    """Raw pixel values of some images.

    Attributes:
        edges: float64 (b + 1,), ascending, in the unit of the images.
        counts: int64 (bands, b), pixels.
        noise: Scale on which the values scatter, see `noise_scale`; in the unit of the images.
        decades: log10 of the largest magnitude over `noise`: the dynamic range.
        n_invalid: Pixels that are not finite and stand in no bin.
    """

    edges: Floats
    counts: NDArray[np.int64]
    noise: float
    decades: float
    n_invalid: int

    @property
    def is_logarithmic(self) -> bool:
        """Whether bins are equally wide in arsinh(value / noise): linear about zero, logarithmic beyond the noise."""
        return self.decades > LOG_DECADES


def count_values(images: Sequence[NDArray[Any]]) -> Histogram:
    """Histogram of the pixel values of images that have at least one finite pixel.

    Args:
        images: (H, W) or (H, W, C) each; bands are counted apart if all images have equally many, else together.
    """
    n_bands = {1 if image.ndim == 2 else image.shape[2] for image in images}
    columns = n_bands.pop() if len(n_bands) == 1 else 1
    values = np.concatenate([image.reshape(-1, columns) for image in images])
    finite = np.isfinite(values)
    known = values[finite].astype(np.float64)
    noise, largest = noise_scale(known), float(np.abs(known).max())
    decades = float(np.log10(largest / noise)) if largest else 0.0
    edges = _bin_edges(known, noise, log=decades > LOG_DECADES, whole=bool(np.issubdtype(values.dtype, np.integer)))
    bands = zip(values.T, finite.T, strict=True)
    counts = np.stack([np.histogram(band[valid], edges)[0] for band, valid in bands]).astype(np.int64)
    return Histogram(edges, counts, noise, decades, int((~finite).sum()))


def noise_scale(values: Floats) -> float:
    """Scatter of pixel values: 1.4826 times their median absolute deviation, or the smallest magnitude above zero.

    The first is the standard deviation of normal noise, untouched by sources; it is zero where more than half of the
    pixels are equal. Where all are zero, the scale is 1.

    Source: Beers, Flynn & Gebhardt 1990, AJ 100, 32 (median absolute deviation as a scale).
    """
    from astropy.stats import mad_std

    magnitudes = np.abs(values[values != 0])
    return float(mad_std(values)) or float(magnitudes.min(initial=np.inf) if len(magnitudes) else 1.0)


def _bin_edges(values: Floats, noise: float, *, log: bool, whole: bool) -> Floats:
    low, high = float(values.min()), float(values.max())
    if log:
        edges = noise * np.sinh(np.linspace(np.arcsinh(low / noise), np.arcsinh(high / noise), N_BINS + 1))
        edges[[0, -1]] = low, high  # sinh(arsinh(x)) may miss x by a rounding error
        return np.asarray(np.unique(np.append(np.floor(edges), high + 1)) - 0.5 if whole else edges)
    if whole:
        width = np.ceil((high - low + 1) / N_BINS)  # equally many whole values in each bin
        return np.asarray(low - 0.5 + width * np.arange(np.ceil((high - low + 1) / width) + 1))
    return np.linspace(low, high if high > low else low + 1, N_BINS + 1)
