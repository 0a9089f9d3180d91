"""Stretch: from physical pixel values to [0, 1], by the intervals and stretches of `astropy.visualization`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError, UsageError
from featurestore.registry import unknown_name

Range = tuple[float, float]
Values = NDArray[np.float64]


def _minmax(values: Values) -> Range:
    return float(values.min()), float(values.max())


def _unit(_: Values) -> Range:
    return 0.0, 1.0


def _zscale(values: Values, contrast: float) -> Range:
    from astropy.visualization import ZScaleInterval

    low, high = ZScaleInterval(contrast=contrast).get_limits(values)
    return float(low), float(high)


def _percentile(values: Values, low: float, high: float) -> Range:
    from astropy.visualization import AsymmetricPercentileInterval

    bottom, top = AsymmetricPercentileInterval(low, high).get_limits(values)
    return float(bottom), float(top)


def _sigmaclip(values: Values, sigma: float) -> Range:
    """From `sigma` standard deviations above the clipped background to the maximum: fainter pixels become 0."""
    from astropy.stats import sigma_clipped_stats

    _, median, deviation = sigma_clipped_stats(values, sigma=sigma)
    return float(median + sigma * deviation), float(values.max())


def _astropy_stretch(name: str) -> Callable[..., Values]:
    def apply(unit: Values, *parameters: float) -> Values:
        from astropy import visualization

        stretched: Values = getattr(visualization, name)(*parameters)(unit)
        return stretched

    return apply


_INTERVALS: dict[str, tuple[Callable[..., Range], tuple[float, ...]]] = {
    "minmax": (_minmax, ()),
    "unit": (_unit, ()),
    "zscale": (_zscale, (0.25,)),
    "percentile": (_percentile, (1.0, 99.0)),
    "sigmaclip": (_sigmaclip, (3.0,)),
}
_CURVES: dict[str, tuple[Callable[..., Values], tuple[float, ...]]] = {
    "linear": (_astropy_stretch("LinearStretch"), ()),
    "asinh": (_astropy_stretch("AsinhStretch"), (0.1,)),
    "log": (_astropy_stretch("LogStretch"), (1000.0,)),
    "sqrt": (_astropy_stretch("SqrtStretch"), ()),
}


@dataclass(frozen=True)
class Stretch:
    """An interval of values that becomes [0, 1], and a curve over it.

    Written ``INTERVAL+CURVE``, each optional: intervals ``minmax``, ``unit`` (pixels are in [0, 1]
    already, as those of `featurestore.datasets.cropping.crop`), ``zscale:CONTRAST``, ``percentile:LOW:HIGH``,
    ``sigmaclip:SIGMA``; curves ``linear``, ``asinh:A``, ``log:A``, ``sqrt``. Parameters are those of
    `astropy.visualization` and have defaults. Without an interval, integers are divided by the largest value of
    their type and floats are mapped by their range; ``none`` is neither interval nor curve.
    """

    interval: str | None = None
    interval_parameters: tuple[float, ...] = ()
    curve: str | None = None
    curve_parameters: tuple[float, ...] = ()

    @classmethod
    @lru_cache(maxsize=256)
    def parse(cls, text: str) -> Stretch:
        """The stretch that `text` describes.

        Raises:
            UsageError: Too many parts, or parameters that are not numbers, or out of range.
            UnknownNameError: No such interval or curve.
        """
        if text == "none":
            return cls()
        given: dict[str, Any] = {}
        for part in text.split("+"):
            name, *numbers = part.split(":")
            if name not in _INTERVALS and name not in _CURVES:
                raise unknown_name("stretch", name, [*_INTERVALS, *_CURVES, "none"])
            kind, table = ("interval", _INTERVALS) if name in _INTERVALS else ("curve", _CURVES)
            if kind in given:
                raise UsageError(f"two {kind}s in one stretch", where=text, hint="Give one interval and one curve.")
            given[kind] = name
            given[f"{kind}_parameters"] = _numbers(numbers, table[name][1], text)
        return cls(**given)

    def apply(self, bands: NDArray[Any]) -> NDArray[Any]:
        """Stretch each band of (H, W, C).

        Returns:
            uint8 unchanged when nothing is to be stretched, else float32 in [0, 1].

        Raises:
            PreprocessingError: A band has no finite pixel, or all its pixels have one value.
        """
        if self == Stretch() and bands.dtype == np.uint8:
            return bands
        if np.issubdtype(bands.dtype, np.integer) and self.interval is None:
            return self._bend(bands / np.iinfo(bands.dtype).max)
        planes = [self._bend(self._scale(bands[..., band])) for band in range(bands.shape[2])]
        return np.stack(planes, axis=-1)

    def _scale(self, plane: NDArray[Any]) -> Values:
        """The interval becomes [0, 1]; what lies outside it is clipped by the curve."""
        # In float64 the range of any float32 image neither overflows nor vanishes.
        values = plane.astype(np.float64)
        finite = np.isfinite(values)
        if not finite.any():
            raise PreprocessingError("the image has no finite pixel", where="stretch", hint="Remove the image.")
        interval, defaults = _INTERVALS[self.interval or "minmax"]
        low, high = interval(values[finite], *(self.interval_parameters or defaults))
        if not high > low:
            raise PreprocessingError(
                f"the pixels leave nothing to stretch between {low:g} and {high:g}: all equal, or all background",
                where=f"stretch={self.interval or 'minmax'}",
                hint="Remove the image, or choose a wider stretch.",
            )
        values -= low
        values /= high - low
        values[~finite] = 0
        return values

    def _bend(self, unit: Values) -> NDArray[np.float32]:
        curve, defaults = _CURVES[self.curve or "linear"]
        return curve(unit, *(self.curve_parameters or defaults)).astype(np.float32)


def _numbers(given: list[str], defaults: tuple[float, ...], text: str) -> tuple[float, ...]:
    if not given:
        return defaults
    try:
        numbers = tuple(float(number) for number in given)
    except ValueError:
        numbers = ()
    # Two parameters are percentiles; a single one far from 1 would leave nothing but rounding errors.
    fit = 0 <= numbers[0] < numbers[1] <= 100 if len(numbers) == 2 else all(1e-6 <= n <= 1e6 for n in numbers)
    if fit and len(given) == len(numbers) == len(defaults):
        return numbers
    shape = ":".join(f"{default:g}" for default in defaults) or "none"
    raise UsageError(
        "the parameters of the stretch do not fit",
        where=text,
        hint=f"By default: {shape}. Numbers lie in [1e-6, 1e6], percentiles in [0, 100] and in order.",
    )
