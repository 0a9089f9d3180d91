from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from featurestore.datasets.cropping.sky_catalogue import Sources, place_sources, read_sources
from featurestore.errors import DatasetError, UsageError

MGCLS = {
    "RA_deg": [10.0, 350.5],
    "Dec_deg": [-30.0, 5],
    "smax_asec": [10.0, 8],
    "smin_asec": [8.0, 8],
    "spa_deg": [45.0, 0],
}


def sky_map(
    scale: float = 1.5, rotation: float = 0.0, projection: str = "SIN", at: tuple[float, float] = (10, -30)
) -> WCS:
    """The projection of an image of 200 x 160 pixels, in arcsec a pixel and degrees."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval, wcs.wcs.crpix = at, [100.5, 80.5]
    angle = np.deg2rad(rotation)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = turn @ np.diag([-scale / 3600, scale / 3600])
    wcs.pixel_shape = (200, 160)
    return wcs


def on_sky(position: Any, axes: Any, angle: Any) -> Sources:
    n = len(position)
    return Sources(
        True, np.array(position, float), np.array(axes, float), np.array(angle, float), np.full(n, "c"), None
    )


@pytest.mark.parametrize("suffix", [".csv", ".ecsv", ".fits", ".xml"])
def test_catalogues_of_mgcls(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"catalogue{suffix}"
    Table(MGCLS).write(path, format="votable" if suffix == ".xml" else None)
    sources = read_sources(path)
    assert sources.on_sky and len(sources) == 2
    assert sources.position.tolist() == [[10, -30], [350.5, 5]]
    assert sources.axes.tolist() == [[10, 8], [8, 8]]
    assert sources.angle.tolist() == [45, 0]
    assert sources.classes.tolist() == ["compact"] * 2 and sources.image is None


def test_units_of_the_file_are_used(tmp_path: Path) -> None:
    table = Table(
        {"RA": [0.1] * u.rad, "DEC": [30] * u.arcmin, "Maj": [0.002] * u.deg, "Min": [1] * u.arcsec, "PA": [90] * u.deg}
    )
    table.write(tmp_path / "pybdsf.fits")
    sources = read_sources(tmp_path / "pybdsf.fits", "arcmin")
    np.testing.assert_allclose(sources.position, [[np.rad2deg(0.1), 0.5]])
    np.testing.assert_allclose(sources.axes, [[7.2, 1]])


def test_the_unit_of_axes_can_be_told(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("RA,DEC,Maj,Class\n1,2,0.002,agn\n3,4,0.001,\n")
    sources = read_sources(tmp_path / "c.csv", "deg")
    np.testing.assert_allclose(sources.axes, [[7.2, 7.2], [3.6, 3.6]])
    assert sources.classes[0] == "agn"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ra,dec\n1,2\n", r"lacks major; it has ra, dec .*Name a column major or maj"),
        ("major\n1\n", r"lacks x, y"),
        ("ra,dec,major,minor\n1,2,3,2\n", r"lacks angle"),
        ("ra,dec,major\n1,2,\n3,95,1\n5,6,-1\n7,8,1\n", r"3 sources have no position.*rows 1, 2, 3"),
        ("ra,dec,major\nx,2,3\n", r"the column ra cannot be used"),
        ("ra,dec,major\n", r"catalogue is empty"),
    ],
)
def test_bad_catalogues(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(DatasetError, match=reason):
        read_sources(tmp_path / "c.csv")


def test_what_is_no_catalogue(tmp_path: Path) -> None:
    (tmp_path / "c.fits").write_text("no table")
    with pytest.raises(DatasetError, match=r"the sky catalogue cannot be read: .*Give a CSV, ECSV or FITS table"):
        read_sources(tmp_path / "c.fits")
    with pytest.raises(UsageError, match=r"the unit is unknown \[parsec\]. Use arcsec, arcmin, deg"):
        read_sources(tmp_path / "c.fits", "parsec")


def test_the_closed_formula_where_north_is_up() -> None:
    a, b, angle = 12.0, 5.0, 25.0
    (box,) = place_sources(on_sky([[10, -30]], [[a, b]], [angle]), sky_map(scale=1.5))
    sin, cos = np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))
    half = np.array([np.hypot(a * sin, b * cos), np.hypot(a * cos, b * sin)]) / 2 / 1.5
    np.testing.assert_allclose(box, [100 - half[0], 80 - half[1], 100 + half[0], 80 + half[1]], atol=1e-4)


@given(
    st.floats(2, 30), st.floats(0.1, 1), st.floats(0, 180), st.floats(0, 360), st.sampled_from(["SIN", "TAN", "ZEA"]),
    st.floats(-0.02, 0.02), st.sampled_from([-80, -30, 0, 60]),
)  # fmt: skip
def test_the_box_encloses_the_ellipse_on_the_sky(
    major: float, ratio: float, angle: float, rotation: float, projection: str, offset: float, dec: float
) -> None:
    wcs = sky_map(1.3, rotation, projection, (10, dec))
    sources = on_sky([[10 + offset, dec + offset]], [[major, major * ratio]], [angle])
    (box,) = place_sources(sources, wcs)
    t = np.linspace(0, 2 * np.pi, 720)
    along, across = major / 2 * np.cos(t), major * ratio / 2 * np.sin(t)  # semi-axes, arcsec
    centre = SkyCoord(*sources.position[0], unit="deg")
    edge = centre.directional_offset_by((angle + np.rad2deg(np.arctan2(across, along))) * u.deg,
                                        np.hypot(along, across) * u.arcsec)  # fmt: skip
    x, y = edge.to_pixel(wcs)
    np.testing.assert_allclose(box - 0.5, [x.min(), y.min(), x.max(), y.max()], atol=5e-3)


def test_the_first_pixel_is_one_one() -> None:
    sources = Sources(False, np.array([[1.0, 1]]), np.array([[4.0, 2]]), np.array([0.0]), np.array(["c"]), None)
    np.testing.assert_allclose(place_sources(sources, None), [[-1.5, -0.5, 2.5, 1.5]])


def test_angles_in_pixels_count_from_the_x_axis() -> None:
    sources = Sources(False, np.array([[51.0, 51]]), np.array([[4.0, 2]]), np.array([90.0]), np.array(["c"]), None)
    np.testing.assert_allclose(place_sources(sources, None), [[49.5, 48.5, 51.5, 52.5]])


def test_sources_behind_the_observer_are_nowhere() -> None:
    boxes = place_sources(on_sky([[190, 30], [10, -30]], [[9, 9]] * 2, [0, 0]), sky_map())
    assert np.isnan(boxes[0]).all() and np.isfinite(boxes[1]).all()


@pytest.mark.parametrize("suffix", [".csv", ".fits"])
def test_missing_classes_are_compact_and_counted(tmp_path: Path, suffix: str) -> None:
    from astropy.table import MaskedColumn

    columns = {name: values * 2 for name, values in MGCLS.items()}
    classes = MaskedColumn(["jet", "nan", "1.0", "jet"], mask=[False, False, False, True])
    Table(columns | {"class": classes}).write(tmp_path / f"catalogue{suffix}")
    sources = read_sources(tmp_path / f"catalogue{suffix}")
    assert sources.classes.tolist() == ["jet", "compact", "1", "compact"]
    assert sources.without_class == 2
