"""Groups by place on the sky: sources close to each other never straddle train and test.

A user asks for them by an option of the dataset: ``DATA,groups=sky:30`` makes groups of sources whose neighbours lie
within 30 arcsec.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DatasetError, UsageError
from featurestore.samples import SampleTable, join_notices

_ENDING = re.compile(r"(?P<data>.*),groups=(?P<groups>[^,]*)(?P<rest>(,[a-z_]+=[^,]*)*)", re.DOTALL)
_SEXAGESIMAL = re.compile(
    r"J(?P<h>[01]\d|2[0-3])(?P<hm>[0-5]\d)(?P<hs>[0-5]\d(?:\.\d+)?)"
    r"(?P<sign>[+-])(?P<d>[0-8]\d)(?P<dm>[0-5]\d)(?P<ds>[0-5]\d(?:\.\d+)?)"
)
_DECIMAL = re.compile(r"(?<![\d.])(?P<ra>\d{1,3}\.\d+)(?:_(?=[+-]?\d)|(?=[+-]))(?P<dec>[+-]?\d{1,3}\.\d+)")


def split_groups(text: str) -> tuple[str, float | None]:
    """What the user typed for a dataset, and the radius of its sky groups in arcsec; None: none are asked for.

    Raises:
        UsageError: ``groups=`` is followed by something else than ``sky:RADIUS``.
    """
    match = _ENDING.fullmatch(text)
    if match is None:
        return text, None
    kind, _, number = match["groups"].partition(":")
    try:
        radius = float(number) if kind == "sky" else 0.0
    except ValueError:
        radius = 0.0
    if not 0 < radius <= 180 * 3600:
        raise UsageError(
            f"groups={match['groups']} is not understood", where=text, hint="Write groups=sky:30, a radius in arcsec."
        )
    return match["data"] + match["rest"], radius


def choose_groups(table: SampleTable, text: str) -> SampleTable:
    """The table with the groups that the dataset as the user typed it asks for; the same table if it asks for none.

    Raises:
        UsageError, DatasetError: See `split_groups` and `group_by_sky`.
    """
    radius = split_groups(text)[1]
    return table if radius is None else group_by_sky(table, radius)


def group_by_sky(table: SampleTable, radius: float) -> SampleTable:
    """Join samples into groups by their distance on the sky.

    Two samples within `radius` of each other share a group, and so do all that such steps connect (friends of
    friends). Groups that the table has are kept whole. A group is called like its first sample id in alphabetical
    order. Positions are `SampleTable.sky` or, where that is unknown, come from names; see `position_of`. Samples
    without a position keep their group, and the table's notice counts them.

    Args:
        table: The samples.
        radius: Largest distance of two neighbours, in arcsec.

    Raises:
        DatasetError: No sample has a position.
    """
    sky = _positions(table)
    known = np.flatnonzero(np.isfinite(sky).all(axis=1))
    if not len(known):
        raise DatasetError(
            "no sample has a position on the sky",
            where=table.name,
            hint="Give columns ra and dec (degrees) in the catalogue, or file names such as J123456.7+123456.",
        )
    first, second = _neighbours(sky[known], radius)
    pairs = np.concatenate([np.stack([known[first], known[second]]), _same_group(table)], axis=1)
    groups = _name_components(pairs, table.sample_ids)
    notice = _describe(table, radius, groups, len(known))
    return replace(table, groups=groups, notice=join_notices(table.notice, notice))


def position_of(name: str) -> tuple[float, float] | None:
    """Right ascension and declination, in degrees, that the last part of a path tells; None if it tells none.

    Two forms are read: ``JHHMMSS.s+DDMMSS.s``, to at least whole seconds, as in ``FIRSTJ011349.0+065025``; and decimal
    degrees ``RA_DEC`` or ``RA+DEC``, as in ``176.842+035.019``. Names of the first form are cut off, not rounded (IAU
    recommendations), so the position is wrong by up to one unit of its last digit.
    """
    part = name.rpartition("/")[2]
    if match := _SEXAGESIMAL.search(part):
        ra = 15 * (int(match["h"]) + int(match["hm"]) / 60 + float(match["hs"]) / 3600)
        dec = int(match["d"]) + int(match["dm"]) / 60 + float(match["ds"]) / 3600
        return ra, -dec if match["sign"] == "-" else dec
    if (match := _DECIMAL.search(part)) and float(match["ra"]) < 360 and abs(float(match["dec"])) <= 90:
        return float(match["ra"]), float(match["dec"])
    return None


def _positions(table: SampleTable) -> NDArray[np.float64]:
    """Float64 (n, 2), degrees, NaN where unknown."""
    named = [position_of(name) or (np.nan, np.nan) for name in table.sample_ids]
    told = np.array(named, dtype=np.float64).reshape(-1, 2)
    return told if table.sky is None else np.where(np.isfinite(table.sky).all(axis=1, keepdims=True), table.sky, told)


def _neighbours(sky: NDArray[np.float64], radius: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs within the radius, each source with itself included."""
    from astropy.coordinates import SkyCoord, search_around_sky
    from astropy.units import arcsec

    coords = SkyCoord(*sky.T, unit="deg")
    first, second, _, _ = search_around_sky(coords, coords, radius * arcsec)
    return first, second


def _same_group(table: SampleTable) -> NDArray[np.int64]:
    """int64 (2, k): each sample of a group that the table has, and the first one of that group."""
    if table.groups is None:
        return np.empty((2, 0), dtype=np.int64)
    rows = np.flatnonzero(table.groups != "")
    _, first, group = np.unique(table.groups[rows], return_index=True, return_inverse=True)
    return np.stack([rows, rows[first][group]])


def _name_components(pairs: NDArray[np.int64], ids: Sequence[str]) -> NDArray[np.str_]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(pairs.shape[1], dtype=bool), tuple(pairs)), shape=(len(ids), len(ids)))
    component = connected_components(links, directed=False)[1]
    names = np.array(ids, dtype=np.str_)
    order = np.argsort(names, kind="stable")
    first = np.unique(component[order], return_index=True)[1]
    named: NDArray[np.str_] = names[order[first]][component]
    return named


def _describe(table: SampleTable, radius: float, groups: NDArray[np.str_], n_known: int) -> str:
    text = f"{table.name}: {len(table):,} samples in {len(np.unique(groups)):,} groups within {radius:g} arcsec."
    lost = len(table) - n_known
    return text + (f" {lost:,} samples have no position on the sky and join none." if lost else "")
