"""Sky catalogues: elliptical sources on the sky or in pixels, and the boxes around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.boundary import reading
from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.datasets.files import some_of
from featurestore.datasets.labels import as_text, unify
from featurestore.errors import DatasetError, UsageError

Values = NDArray[np.float64]

DEFAULT_CLASS = "compact"

AXIS_UNITS = ("arcsec", "arcmin", "deg")

_COLUMNS = {
    "ra": ("ra", "ra_deg", "raj2000", "_raj2000", "alpha_j2000"),
    "dec": ("dec", "dec_deg", "dej2000", "decj2000", "_dej2000", "delta_j2000"),
    "x": ("x", "x_image", "xpos"),
    "y": ("y", "y_image", "ypos"),
    "major": ("major", "maj", "smax_asec", "bmaj"),
    "minor": ("minor", "min", "smin_asec", "bmin"),
    "angle": ("pa", "spa_deg", "position_angle", "theta"),
    "class": ("class", "label", "category"),
    "image": ("image", "file", "filename", "file_name"),
}
"""What a column means -> the names, in lower case, by which it is known."""

_FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits", ".fit": "fits", ".xml": "votable"}


@dataclass(frozen=True)
class Sources:
    """Elliptical sources.

    Attributes:
        on_sky: Whether positions are right ascension and declination (ICRS, degrees), axes arcsec and angles position
            angles, from north through east. Else positions are FITS pixels, (1, 1) the centre of the first one, axes
            pixels, and angles count from the x axis towards the y axis.
        position: float64 (n, 2).
        axes: float64 (n, 2), full lengths of the major and the minor axis.
        angle: float64 (n,), degrees.
        classes: str (n,).
        image: str (n,), the image that each source is in, or None: positions tell.
        without_class: Sources whose class is missing in a catalogue that has classes; they count as `DEFAULT_CLASS`.
    """

    on_sky: bool
    position: Values
    axes: Values
    angle: Values
    classes: NDArray[np.str_]
    image: NDArray[np.str_] | None
    without_class: int = 0

    def __len__(self) -> int:
        return len(self.position)


def read_sources(path: Path, axis_unit: str | None = None) -> Sources:
    """Read a sky catalogue: CSV, ECSV, a FITS table, a VOTable.

    Columns are known by their names, upper or lower case: ``ra`` and ``dec`` or ``x`` and ``y``; ``major`` and
    ``minor`` (also ``Maj`` and ``Min``, ``smax_asec`` and ``smin_asec``), full widths as source finders give them;
    ``pa``; optionally ``class`` (else ``compact``) and ``image``. Without ``minor`` sources are circles. Units of the
    file are used; without any, angles are degrees and axes arcsec.

    Args:
        path: The catalogue.
        axis_unit: Unit of the axes, one of `AXIS_UNITS`, where the file states none.

    Raises:
        UsageError: An unknown unit.
        DatasetError: The file cannot be read, a column is missing, or a value is not a number or impossible.
    """
    if axis_unit not in (None, *AXIS_UNITS):
        raise UsageError("the unit is unknown", where=axis_unit, hint=f"Use {', '.join(AXIS_UNITS)}.")
    table = _read(path)
    found = {meaning: _find(table, names) for meaning, names in _COLUMNS.items()}
    on_sky = bool(found["ra"] and found["dec"])
    place = ("ra", "dec") if on_sky else ("x", "y")
    lacking = [name for name in (*place, "major", *(("angle",) if found["minor"] else ())) if not found[name]]
    if lacking:
        raise DatasetError(
            f"the catalogue lacks {', '.join(lacking)}; it has {some_of(table.colnames, 20)}",
            where=path,
            hint=f"Name a column {' and one '.join(' or '.join(_COLUMNS[name]) for name in lacking)}.",
        )
    units = {"ra": "deg", "dec": "deg", "angle": "deg", "major": axis_unit or "arcsec", "minor": axis_unit or "arcsec"}

    def column(meaning: str) -> Values:
        wanted = "arcsec" if meaning in ("major", "minor") else "deg"
        unit = (units[meaning], wanted) if on_sky and meaning in units else None
        return _numbers(table[found[meaning]], unit, path)

    major, classes = column("major"), unify(table[found["class"]].tolist() if found["class"] else [None] * len(table))
    return _checked(
        Sources(
            on_sky,
            np.stack([column(name) for name in place], axis=1),
            np.stack([major, column("minor") if found["minor"] else major], axis=1),
            column("angle") if found["angle"] else np.zeros(len(table)),
            np.array([name or DEFAULT_CLASS for name in classes]),
            np.array([as_text(name) or "" for name in table[found["image"]].tolist()]) if found["image"] else None,
            classes.count(None) if found["class"] else 0,
        ),
        path,
    )


def place_sources(sources: Sources, wcs: Any) -> Values:
    """Boxes around the sources in one image.

    A sky ellipse is carried into pixels by the linear part of the projection where it lies. The box is the smallest
    upright one: for an ellipse c + A u, |u| <= 1 (Boyd & Vandenberghe 2004, Convex Optimization, section 2.2.2), the
    largest value of a coordinate is, by the Cauchy-Schwarz inequality, c_i plus the length of row i of A. Where x is
    west and y is north, that is sqrt(a^2 sin^2 PA + b^2 cos^2 PA) and sqrt(a^2 cos^2 PA + b^2 sin^2 PA), with
    semi-axes a and b over the pixel scale.

    Args:
        sources: n sources.
        wcs: `astropy.wcs.WCS` of the image, two axes; not used for sources in pixels.

    Returns:
        float64 (n, 4): edges x0, y0, x1, y1 in pixels, (0, 0) the outer corner of the first pixel of the array; NaN
        for sources more than 90 degrees from the image.
    """
    centre, jacobian = _on_sky(sources, wcs) if sources.on_sky else _in_pixels(sources)
    angle = np.deg2rad(sources.angle)
    directions = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # axis, north/east, n
    semi_axes = sources.axes.T[:, None] / 2 * directions
    images = np.einsum("npk,akn->npa", jacobian, semi_axes)  # the matrix A: pixel axis p, ellipse axis a
    half = np.sqrt((images**2).sum(axis=2))
    return np.concatenate([centre + 0.5 - half, centre + 0.5 + half], axis=1)


def _on_sky(sources: Sources, wcs: Any) -> tuple[Values, Values]:
    """Pixel centres (n, 2), counted from 0; and pixels per arcsec (n, 2, 2) to the north and to the east."""
    from astropy.coordinates import SkyCoord
    from astropy.units import arcsec, deg
    from astropy.wcs.utils import pixel_to_skycoord

    centre = np.full((len(sources), 2), np.nan)
    jacobian = np.full((len(sources), 2, 2), np.nan)
    coords = SkyCoord(*sources.position.T, unit="deg")
    middle = pixel_to_skycoord(*((length - 1) / 2 for length in wcs.pixel_shape), wcs)
    near = np.flatnonzero(coords.separation(middle) < 90 * deg)  # beyond, some projections fold back
    coords = coords[near]

    def pixels(place: Any) -> Values:
        return np.stack(place.to_pixel(wcs), axis=1).astype(np.float64)

    centre[near] = pixels(coords)
    for column, towards in enumerate((0 * deg, 90 * deg)):
        jacobian[near, :, column] = pixels(coords.directional_offset_by(towards, 1 * arcsec)) - centre[near]
    return centre, jacobian


def _in_pixels(sources: Sources) -> tuple[Values, Values]:
    return sources.position - 1, np.broadcast_to(np.eye(2), (len(sources), 2, 2))


def _read(path: Path) -> Any:
    from astropy.table import Table

    hint = "Give a CSV, ECSV or FITS table, or a VOTable."
    with reading(path, "the sky catalogue cannot be read", hint=hint), ignored_warnings():
        table = Table.read(path, format=_FORMATS.get(path.suffix.lower()))
    if not len(table):
        raise DatasetError("the sky catalogue is empty", where=path, hint="Give a catalogue with sources.")
    return table


def _find(table: Any, known: tuple[str, ...]) -> str:
    lower = {name.lower(): name for name in table.colnames}
    return next((lower[name] for name in known if name in lower), "")


def _numbers(column: Any, units: tuple[str, str] | None, path: Path) -> Values:
    """Values of a column; `units` are the one it has if it states none, and the one that is wanted."""
    from astropy.units import Quantity, UnitConversionError

    try:
        plain = np.ma.filled(np.ma.asarray(column, dtype=np.float64), np.nan)
        if units is None:
            return np.asarray(plain, dtype=np.float64)
        return np.asarray(Quantity(plain, column.unit or units[0]).to_value(units[1]), dtype=np.float64)
    except (ValueError, TypeError, UnitConversionError) as error:
        raise DatasetError(
            f"the column {column.name} cannot be used: {error}", where=path, hint="Give numbers, in a unit of angle."
        ) from error


def _checked(sources: Sources, path: Path) -> Sources:
    numbers = np.concatenate([sources.position, sources.axes, sources.angle[:, None]], axis=1)
    wrong = ~np.isfinite(numbers).all(axis=1) | (sources.axes <= 0).any(axis=1)
    if sources.on_sky:
        wrong |= abs(sources.position[:, 1]) > 90
    if wrong.any():
        rows = [str(row + 1) for row in np.flatnonzero(wrong)]
        raise DatasetError(
            f"{len(rows)} sources have no position, no positive axes or no angle: rows {some_of(rows)}",
            where=path,
            hint="Correct these rows, or remove them.",
        )
    return sources
