from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from featurestore.datasets import open_dataset
from featurestore.datasets.cropping import crop as cropping
from featurestore.datasets.cropping.crop import CropOptions, crop_images
from featurestore.errors import DatasetError, StoreWriteError, UsageError
from featurestore.preprocessing import Preprocessing
from probes.sweep.splits import divide_rows

SCALE = 1.25  # arcsec a pixel, as MGCLS
SMALL = CropOptions(size=32)


def projection(at: tuple[float, float]) -> WCS:
    wcs = WCS(naxis=4)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN", "FREQ", "STOKES"]
    wcs.wcs.crval, wcs.wcs.crpix = [*at, 1.3e9, 1], [50.5, 40.5, 1, 1]
    wcs.wcs.cdelt = [-SCALE / 3600, SCALE / 3600, 1e6, 1]
    return wcs


@pytest.fixture
def write_field(tmp_path: Path) -> Callable[..., Path]:
    """Write a cube of 100 x 80 pixels and two planes, as MGCLS has them; noise, and a bright square at each source."""

    def write(name: str, at: tuple[float, float], sources: np.ndarray, nan: Any = None) -> Path:
        wcs = projection(at)
        planes = np.random.default_rng(len(name)).normal(0, 1e-5, (1, 2, 80, 100)).astype(np.float32)
        x, y = SkyCoord(sources, unit="deg").to_pixel(wcs.celestial)
        for column, row in zip(np.rint(x).astype(int), np.rint(y).astype(int), strict=True):
            planes[0, 0, row - 1 : row + 2, column - 1 : column + 2] += 1e-2
        if nan is not None:
            planes[0, 0][nan] = np.nan
        fits.writeto(tmp_path / name, planes, wcs.to_header())
        return tmp_path / name

    return write


def sky_of(at: tuple[float, float], pixels: Any) -> np.ndarray:
    """Positions in degrees of pixels counted from 0."""
    coords = projection(at).celestial.pixel_to_world(*np.array(pixels, float).T)
    return np.stack([coords.ra.deg, coords.dec.deg], axis=1)


@pytest.fixture
def mgcls(tmp_path: Path, write_field: Callable[..., Path]) -> tuple[list[Path], Path]:
    """Two fields. In the first, 3 x 2 crops of 32 pixels: two with a source, one of them with NaN."""
    fields = {
        "A209": ((23.0, -13.6), [(10, 12), (50, 40), (40, 10)]),
        "A370": ((40.0, -1.6), [(20, 20), (60, 62), (99, 79)]),
    }
    places = [sky_of(at, pixels) for at, pixels in fields.values()]
    images = [
        write_field("A209.fits", fields["A209"][0], places[0], nan=(slice(0, 5), slice(60, 64))),
        write_field("A370.fits", fields["A370"][0], places[1]),
    ]
    sky = np.concatenate(places)
    columns = {"RA_deg": sky[:, 0], "Dec_deg": sky[:, 1], "smax_asec": np.full(6, 10.0), "smin_asec": np.full(6, 5.0)}
    Table(columns | {"spa_deg": np.zeros(6)}).write(tmp_path / "sources.fits")
    return images, tmp_path / "sources.fits"


def test_from_images_to_a_dataset(mgcls: Any, tmp_path: Path) -> None:
    images, catalogue = mgcls
    report = crop_images(images, catalogue, tmp_path / "crops", SMALL)
    assert (report.images, report.images_cut_now, report.crops, report.boxes) == (2, 2, 4, 4)
    assert (report.dropped_with_nan, report.dropped_without_sources) == (1, 7)
    assert (report.sources, report.sources_in_no_crop) == (6, 2)  # beside the NaN, and in the uncovered margin
    assert report.median_box_side == pytest.approx(4.75, abs=2e-3)  # of 4 x 8 four times, once clipped to 4 x 5.5
    dataset = open_dataset(report.dataset)
    table = dataset.table
    assert list(table.sample_ids) == [
        "images/A209/x00000_y00000.fits", "images/A209/x00032_y00032.fits",
        "images/A370/x00000_y00000.fits", "images/A370/x00032_y00032.fits",
    ]  # fmt: skip
    assert table.groups.tolist() == ["A209", "A209", "A370", "A370"]
    assert table.box_classes == ("compact",)
    for row, (x, y) in enumerate([(10, 12), (18, 8), (20, 20), (28, 30)]):
        image = dataset.read(row).image
        assert image.shape == (32, 32) and image.dtype == np.float32
        assert image.min() == 0 and image.max() == 1
        middle, half = np.array([x + 0.5, 32 - y - 0.5]), np.array([5.0, 10]) / 2 / SCALE
        expected = np.clip([*(middle - half), *(middle + half)], 0, 32)
        np.testing.assert_allclose(table.boxes.of(row), [expected], atol=2e-3)
        assert (image[31 - y - 1 : 31 - y + 2, x - 1 : x + 2] == 1).all(), "the source is where its box is"


def test_parents_never_straddle(write_field: Callable[..., Path], tmp_path: Path) -> None:
    at = [(10.0 * number, -5.0) for number in range(5)]
    sky = np.concatenate([sky_of(place, [(48, 40)]) for place in at])
    images = [write_field(f"field{number}.fits", at[number], sky[[number]]) for number in range(5)]
    Table({"ra": sky[:, 0], "dec": sky[:, 1], "major": np.full(5, 9.0)}).write(tmp_path / "sources.csv")
    report = crop_images(images, tmp_path / "sources.csv", tmp_path / "crops", CropOptions(size=32, stride=16))
    assert (report.crops, report.boxes) == (20, 20)  # overlapping: each source is in four crops
    table = open_dataset(report.dataset).table
    split = divide_rows(table, "largest_object")
    assert len(split.test) == 4 and not set(table.groups[split.train]) & set(table.groups[split.test])


def test_of_two_parents_one_is_for_the_test(mgcls: Any, tmp_path: Path) -> None:
    table = open_dataset(crop_images(*mgcls, tmp_path / "crops", CropOptions(size=16, stride=8)).dataset).table
    split = divide_rows(table, "largest_object")
    assert set(table.groups[split.train]) == {"A209"} and set(table.groups[split.test]) == {"A370"}


def test_crops_keep_their_place_on_the_sky(mgcls: Any, tmp_path: Path) -> None:
    images, catalogue = mgcls
    crop_images(images, catalogue, tmp_path / "crops", SMALL)
    header = fits.getheader(tmp_path / "crops/images/A209/x00032_y00032.fits")
    found = WCS(header).pixel_to_world(18, 8)
    assert found.separation(SkyCoord(*sky_of((23.0, -13.6), [(50, 40)])[0], unit="deg")).arcsec < 1e-3
    parent = fits.getdata(images[0])[0, 0]
    low, high = np.nanpercentile(parent, (2, 98))
    assert (header["PARENT"], header["PLANE"], header["XPARENT"], header["YPARENT"]) == ("A209.fits", 0, 32, 32)
    assert (header["PCTLOW"], header["PCTHIGH"]) == (2, 98)
    np.testing.assert_allclose([header["VALLOW"], header["VALHIGH"]], [low, high], rtol=1e-5)
    expected = np.clip((parent[32:64, 32:64] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(fits.getdata(tmp_path / "crops/images/A209/x00032_y00032.fits"), expected, atol=1e-5)


def test_the_stretch_of_the_parent_reaches_the_backbone(mgcls: Any, tmp_path: Path) -> None:
    dataset = open_dataset(crop_images(*mgcls, tmp_path / "crops", SMALL).dataset)
    image = dataset.read(1).image * np.float32(0.5)  # a crop without a saturated pixel
    pixels = Preprocessing.parse("resize=32,stretch=unit").apply(image, np.zeros((0, 4), np.float32))
    np.testing.assert_allclose(pixels, np.stack([image] * 3), atol=1e-6)


def test_values_can_be_kept(mgcls: Any, tmp_path: Path) -> None:
    images, catalogue = mgcls
    crop_images(images, catalogue, tmp_path / "crops", CropOptions(size=32, percentiles=None))
    path = tmp_path / "crops/images/A370/x00000_y00000.fits"
    np.testing.assert_array_equal(fits.getdata(path), fits.getdata(images[1])[0, 0, :32, :32])
    assert "PCTLOW" not in fits.getheader(path)


def test_another_plane(mgcls: Any, tmp_path: Path) -> None:
    images, catalogue = mgcls
    crop_images(images[1:], catalogue, tmp_path / "crops", CropOptions(size=32, plane=1, percentiles=None))
    path = tmp_path / "crops/images/A370/x00000_y00000.fits"
    np.testing.assert_array_equal(fits.getdata(path), fits.getdata(images[1])[0, 1, :32, :32])


def test_a_second_call_cuts_only_what_is_new(mgcls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, catalogue = mgcls
    output, steps = tmp_path / "crops", list[tuple[int, int]]()
    first = crop_images(images[:1], catalogue, output, SMALL)
    assert first.images_cut_now == 1
    both = crop_images(images, catalogue, output, SMALL, lambda *step: steps.append(step))
    assert (both.images, both.images_cut_now, both.crops) == (2, 1, 4)
    assert steps == [(1, 2), (2, 2)]
    monkeypatch.setattr(cropping, "_cut", None)
    assert crop_images(images, catalogue, output, SMALL).images_cut_now == 0


def test_an_interrupted_image_is_cut_again(mgcls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, catalogue = mgcls
    output = tmp_path / "crops"
    with monkeypatch.context() as patch:
        patch.setattr(cropping.json, "dumps", _interrupt_at_the_record(json.dumps))
        with pytest.raises(KeyboardInterrupt):
            crop_images(images, catalogue, output, SMALL)
    assert not (output / "images" / "A209").exists()
    assert crop_images(images, catalogue, output, SMALL).images_cut_now == 2
    assert len(open_dataset(f"coco:{output}")) == 4
    assert [path.name for path in (output / "images").iterdir() if path.name.startswith(".")] == []


def _interrupt_at_the_record(dumps: Callable[..., str]) -> Callable[..., str]:
    def apply(value: Any, **options: Any) -> str:
        if "crops" in value:
            raise KeyboardInterrupt
        return dumps(value, **options)

    return apply


def test_an_image_that_changed_is_cut_again(mgcls: Any, tmp_path: Path) -> None:
    images, catalogue = mgcls
    crop_images(images, catalogue, tmp_path / "crops", SMALL)
    data = fits.getdata(images[1])
    data[0, 0, :32, :32] = np.nan
    fits.update(images[1], data, fits.getheader(images[1]), 0)
    report = crop_images(images, catalogue, tmp_path / "crops", SMALL)
    assert (report.images_cut_now, report.crops, report.dropped_with_nan) == (1, 3, 2)
    assert len(open_dataset(report.dataset)) == 3


def test_other_options_need_another_folder(mgcls: Any, tmp_path: Path) -> None:
    images, catalogue = mgcls
    crop_images(images, catalogue, tmp_path / "crops", SMALL)
    with pytest.raises(DatasetError, match=r"holds crops that differ in size, percentiles .*Give another folder"):
        crop_images(images, catalogue, tmp_path / "crops", CropOptions(size=16, percentiles=None))


def test_sources_in_pixels_and_classes(tmp_path: Path) -> None:
    for name in ("a.fits", "b.fits"):
        fits.writeto(tmp_path / name, np.arange(64 * 64, dtype=np.float32).reshape(64, 64))
    catalogue = tmp_path / "c.csv"
    catalogue.write_text("image,x,y,major,class\na.fits,5,9,4,agn\nb,40,40,6,star\n")
    report = crop_images([tmp_path / "a.fits", tmp_path / "b.fits"], catalogue, tmp_path / "crops", SMALL)
    table = open_dataset(report.dataset).table
    assert table.box_classes == ("agn", "star") and report.boxes == 2
    np.testing.assert_allclose(table.boxes.xyxy, [[2.5, 21.5, 6.5, 25.5], [4.5, 21.5, 10.5, 27.5]])
    catalogue.write_text("x,y,major\n5,9,4\n")
    with pytest.raises(DatasetError, match=r"sources in pixels do not tell which image they are in \[2 images\]"):
        crop_images([tmp_path / "a.fits", tmp_path / "b.fits"], catalogue, tmp_path / "others", SMALL)


def test_sources_on_the_sky_need_coordinates(mgcls: Any, tmp_path: Path) -> None:
    fits.writeto(tmp_path / "bare.fits", np.arange(64 * 64, dtype=np.float32).reshape(64, 64))
    with pytest.raises(DatasetError, match="the image has no celestial coordinates, and the catalogue has no pixels"):
        crop_images([tmp_path / "bare.fits"], mgcls[1], tmp_path / "crops", SMALL)


def test_no_crop_is_left(mgcls: Any, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no crop is left: 1 with NaN pixels, 11 without enough sources"):
        crop_images(*mgcls, tmp_path / "crops", CropOptions(size=32, min_sources=50))


def test_missing_and_double_images(mgcls: Any, tmp_path: Path) -> None:
    images, catalogue = mgcls
    with pytest.raises(DatasetError, match="the image cannot be read: No such file"):
        crop_images([tmp_path / "x.fits"], catalogue, tmp_path / "crops")
    with pytest.raises(DatasetError, match="several images are called A209"):
        crop_images([images[0], tmp_path / "b" / "A209.fits.gz"], catalogue, tmp_path / "crops")


def test_a_folder_that_cannot_be_written(mgcls: Any, tmp_path: Path) -> None:
    (tmp_path / "crops").write_text("a file")
    with pytest.raises(StoreWriteError, match="the crops cannot be written"):
        crop_images(*mgcls, tmp_path / "crops", SMALL)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"stride": 0}, {"plane": -1}, {"min_sources": -1}, {"percentiles": (98, 2)}]
)
def test_options_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="must"):
        CropOptions(**wrong)
