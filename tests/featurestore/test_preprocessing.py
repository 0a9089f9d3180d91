"""Pixels of a preprocessing against Pillow, torchvision and timm; crops, bands and refusals."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from featurestore.errors import PreprocessingError
from featurestore.preprocessing import Preprocessing
from featurestore.resizing import INTERPOLATIONS, resize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_BOXES = np.zeros((0, 4), np.float32)
RESIZERS_OF_CPUS = ("torch", "pillow")

Photo = Callable[[int], NDArray[np.uint8]]


def apply(spec: str, image: NDArray, boxes: NDArray = NO_BOXES) -> NDArray[np.float32]:
    return Preprocessing.parse(spec).apply(image, boxes)


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# Outside oracles


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("image", [noise(50, 33, 3), noise(20, 21)], ids=["rgb", "grey"])
def test_pixels_are_those_of_pillow_over_255(interpolation: str, image: NDArray[np.uint8]) -> None:
    whole = Image.fromarray(image).convert("RGB").resize((24, 24), Image.Resampling[interpolation.upper()])
    expected = np.moveaxis(np.asarray(whole, dtype=np.float32) / np.float32(255), 2, 0)
    np.testing.assert_array_equal(apply(f"resize=24,interpolation={interpolation},resizer=pillow", image), expected)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_spec_reaches_the_resizer_of_torch(interpolation: str, antialias: bool) -> None:
    image = noise(50, 33, 3)
    spec = f"resize=24,interpolation={interpolation},antialias={str(antialias).lower()}"
    expected = resize(image, 24, interpolation, antialias, "torch").astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(apply(spec, image), expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pillow_resizer_equals_the_transform_of_timm(interpolation: str, photo: Photo) -> None:
    from timm.data import create_transform

    image = photo(300)
    transform = create_transform((3, 224, 224), interpolation=interpolation, mean=MEAN, std=STD, crop_pct=1.0)
    mean, std = (np.array(values, dtype=np.float32)[:, None, None] for values in (MEAN, STD))
    ours = (apply(f"interpolation={interpolation},resizer=pillow", image) - mean) / std
    np.testing.assert_allclose(ours, transform(Image.fromarray(image)).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("resizer", RESIZERS_OF_CPUS)
def test_float_and_8_bit_images_of_the_same_values_agree(resizer: str, photo: Photo) -> None:
    # Bilinear, because at sharp edges 8-bit bicubic cuts its overshoot after each of its two passes.
    image, spec = photo(100), f"resize=40,interpolation=bilinear,resizer={resizer}"
    assert np.abs(apply(spec, image.astype(np.float32)) - apply(spec, image)).max() <= 1.001 / 255


# What comes out


_resizing = st.tuples(st.sampled_from(INTERPOLATIONS), st.booleans(), st.sampled_from(RESIZERS_OF_CPUS)).filter(
    lambda choice: choice[0] == "nearest" or choice[1] or choice[2] == "torch"
)


@st.composite
def images(draw: st.DrawFn) -> tuple[NDArray, str]:
    """An image of any supported kind, and a channel rule that fits it."""
    height, width = draw(st.integers(1, 40)), draw(st.integers(1, 70))
    n_bands = draw(st.sampled_from([1, 3, 5]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from([np.uint8, np.uint16, np.float32]))
    image = rng.normal(100, 40, (height, width, n_bands)).clip(0).astype(dtype)
    if dtype == np.float32:
        image[rng.random(image.shape) < draw(st.sampled_from([0.0, 0.2, 1.0]))] = np.nan
    rules = ["mean", "0", "0-0-0"] + (["4-2-0"] if n_bands == 5 else ["auto"])
    grey = n_bands == 1 and draw(st.booleans())
    return image[..., 0] if grey else image, draw(st.sampled_from(rules))


def _has_contrast(image: NDArray, rule: str) -> bool:
    bands = image.reshape(*image.shape[:2], -1)
    wanted = range(bands.shape[2]) if rule in ("auto", "mean") else {int(band) for band in rule.split("-")}
    return all(np.unique(band[np.isfinite(band)]).size > 1 for band in (bands[..., index] for index in wanted))


@settings(max_examples=200)
@given(
    given_image=images(),
    stretch=st.sampled_from(["none", "asinh:0.1", "log", "sqrt"]),
    crop=st.sampled_from(["none", "center:0.5", "center:0.01"]),
    side=st.integers(1, 64),
    resizing=_resizing,
)
def test_any_image_becomes_three_float_bands_in_the_unit_range(given_image, stretch, crop, side, resizing) -> None:
    image, rule = given_image
    interpolation, antialias, resizer = resizing
    preprocessing = Preprocessing(stretch, crop, side, interpolation, antialias, rule, resizer)
    if image.dtype == np.float32 and not _has_contrast(image, rule):
        with pytest.raises(PreprocessingError, match=r"no finite pixel|nothing to stretch"):
            preprocessing.apply(image, NO_BOXES)
        return
    pixels = preprocessing.apply(image, NO_BOXES)
    assert pixels.dtype == np.float32
    assert pixels.shape == (3, side, side)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


@pytest.mark.parametrize("orientation", range(8))
def test_orientations_are_pillows_transpositions(orientation: int) -> None:
    image = noise(30, 30, 3)
    upright = Image.fromarray(image)
    turn = [None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270][orientation % 4]
    mirrored = upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if orientation > 3 else upright
    expected = mirrored.transpose(turn) if turn is not None else mirrored
    found = apply(f"resize=30,orientation={orientation}", image)
    np.testing.assert_array_equal((found * 255).round().astype(np.uint8), np.moveaxis(np.asarray(expected), 2, 0))


def test_the_upright_orientation_is_no_part_of_the_key() -> None:
    """Keys of features that are older than the field stay what they were."""
    given = {"decoder": "array", "mean": (0.5,), "std": (0.5,)}
    assert "orientation" not in Preprocessing().resolve(**given)
    assert Preprocessing(orientation=3).resolve(**given)["orientation"] == 3


@pytest.mark.parametrize("resizer", RESIZERS_OF_CPUS)
def test_a_read_only_image_is_fine_and_an_image_is_never_changed(resizer: str) -> None:
    image = noise(20, 30, 3)
    before = image.copy()
    image.flags.writeable = False
    pixels = apply(f"resize=16,resizer={resizer}", image)
    np.testing.assert_array_equal(pixels, apply(f"resize=16,resizer={resizer}", before))
    np.testing.assert_array_equal(image, before)


# Crops

# Column and row number as bands: enlarged without interpolation, the output shows exactly which pixels were kept.
HEIGHT, WIDTH = 40, 70
COORDINATES = np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8)
COORDINATES[..., 0], COORDINATES[..., 1] = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))


def window(crop: str, boxes: NDArray = NO_BOXES) -> tuple[int, int, int, int]:
    """Edges ``x0, y0, x1, y1`` of what `crop` keeps of `COORDINATES`."""
    pixels = apply(f"crop={crop},resize=100,interpolation=nearest", COORDINATES, boxes)
    columns, rows = (pixels[:2] * 255).round().astype(int)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize(
    ("crop", "expected"),
    [
        ("none", (0, 0, 70, 40)),
        ("center:1", (0, 0, 70, 40)),
        ("center:0.5", (17, 10, 52, 30)),
        ("center:0.001", (34, 19, 35, 20)),
    ],
)
def test_the_central_crop_keeps_its_fraction_of_each_side(crop: str, expected: tuple[int, ...]) -> None:
    assert window(crop) == expected


@pytest.mark.parametrize(
    ("margin", "box", "expected"),
    [
        ("0", (20, 10, 30, 20), (20, 10, 30, 20)),
        ("0.2", (20, 10, 30, 20), (18, 8, 32, 22)),
        ("0", (20, 10, 30, 14), (20, 7, 30, 17)),  # the longer side decides
        ("0.2", (0, 0, 10, 10), (0, 0, 14, 14)),  # moved inwards at the upper left
        ("0.2", (60, 30, 70, 40), (56, 26, 70, 40)),  # and at the lower right
        ("0", (-5, -5, 5, 5), (0, 0, 10, 10)),  # a box that sticks out
        ("0", (10, 0, 60, 40), (10, 0, 60, 40)),  # wider than the image is high
        ("9", (30, 15, 40, 25), (0, 0, 70, 40)),  # larger than the image
        ("0", (20.5, 10.5, 30.5, 20.5), (20, 10, 31, 21)),  # pixels that the box touches belong to it
        ("0", (20, 10, 20, 10), (20, 10, 21, 11)),  # never less than a pixel
    ],
)
def test_the_box_crop_is_a_square_around_the_box(margin, box, expected) -> None:
    assert window(f"box:{margin}", np.array([box], np.float32)) == expected


def test_the_largest_box_is_cropped_to() -> None:
    boxes = np.array([[0, 0, 4, 4], [40, 20, 50, 30], [10, 5, 12, 35]], np.float32)
    assert window("box:0", boxes) == (40, 20, 50, 30)


@settings(max_examples=200)
@given(
    xs=st.tuples(st.floats(0, WIDTH, width=32), st.floats(0, WIDTH, width=32)).map(sorted),
    ys=st.tuples(st.floats(0, HEIGHT, width=32), st.floats(0, HEIGHT, width=32)).map(sorted),
    margin=st.floats(0, 3),
)
def test_the_box_crop_contains_its_box_and_is_square_where_there_is_room(xs, ys, margin) -> None:
    x0, y0, x1, y1 = window(f"box:{margin}", np.array([[xs[0], ys[0], xs[1], ys[1]]], np.float32))
    assert 0 <= x0 <= xs[0] <= xs[1] <= x1 <= WIDTH
    assert 0 <= y0 <= ys[0] <= ys[1] <= y1 <= HEIGHT
    width, height = x1 - x0, y1 - y0
    if max(width, height) < HEIGHT:
        assert width == height
    wanted = max(xs[1] - xs[0], ys[1] - ys[0]) * (1 + 2 * margin)
    slack = 2 * (1 + 2 * margin) + 1  # whole pixels at either end of the box, and of the margin
    assert min(wanted, WIDTH) - 1 <= width <= wanted + slack
    assert min(wanted, HEIGHT) - 1 <= height <= wanted + slack


def test_the_stretch_sees_the_whole_image_and_the_crop_comes_after() -> None:
    image = np.zeros((40, 40), np.float32)
    image[0, 0], image[20, 20] = 4, 1
    assert apply("crop=center:0.5,resize=20,interpolation=nearest", image).max() == 0.25


# Bands


@pytest.mark.parametrize("image", [noise(20, 20), noise(20, 20, 1)], ids=["(H, W)", "(H, W, 1)"])
def test_one_band_is_repeated(image: NDArray[np.uint8]) -> None:
    pixels = apply("resize=8", image)
    expected = apply("resize=8", np.repeat(image.reshape(20, 20, 1), 3, axis=2))
    np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("image", [noise(20, 20, 5), noise(20, 20, 5).astype(np.float32)], ids=["uint8", "float"])
@pytest.mark.parametrize("rule", ["4-0-2", "3-3-1", "2"])
def test_bands_are_chosen_by_number(image: NDArray, rule: str) -> None:
    wanted = [int(band) for band in rule.split("-")]
    expected = apply("resize=8", image[..., wanted if len(wanted) == 3 else wanted * 3])
    np.testing.assert_array_equal(apply(f"resize=8,channels={rule}", image), expected)


def test_the_mean_of_all_bands_is_repeated() -> None:
    image = noise(20, 20, 5)
    bands = np.stack([apply("resize=8", image[..., band])[0] for band in range(5)])
    pixels = apply("resize=8,channels=mean", image)
    np.testing.assert_allclose(pixels, np.broadcast_to(bands.mean(axis=0), (3, 8, 8)), rtol=0, atol=1e-6)


def test_the_mean_of_some_bands_can_be_a_channel() -> None:
    image = noise(20, 20, 5)
    bands = np.stack([apply("resize=8", image[..., band])[0] for band in range(5)])
    pixels = apply("resize=8,channels=4+2-0-1+3+1", image)
    expected = np.stack([bands[[4, 2]].mean(axis=0), bands[0], bands[[1, 3, 1]].mean(axis=0)])
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1e-6)
    one = apply("resize=8,channels=4+2", image)
    np.testing.assert_allclose(one, np.repeat(expected[:1], 3, axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rule", "n_channels"), [("auto", 3), ("mean", 3), ("2", 3), ("0+1", 3), ("0-1-2", 3),
                                                  ("0-1", 2), ("0-1-2-3-4", 5), ("0+1-2-3-4", 4)])  # fmt: skip
def test_several_bands_stay_as_many_channels(rule: str, n_channels: int) -> None:
    preprocessing = Preprocessing(resize=8, channels=rule)
    image = noise(20, 20, 3 if rule == "auto" else 5)
    assert preprocessing.n_channels == n_channels
    assert preprocessing.apply(image, np.empty((0, 4), np.float32)).shape == (n_channels, 8, 8)


def test_an_inflated_input_layer_is_stated_in_the_key() -> None:
    given = {"decoder": "array", "mean": (0.5,) * 5, "std": (0.5,) * 5}
    assert Preprocessing(channels="0-1-2-3-4").resolve(**given)["input_layer"] == (
        "weights repeated to 5 channels, times 3/5"
    )
    assert "input_layer" not in Preprocessing(channels="4-1-2").resolve(**given)


def test_a_band_that_is_not_wanted_may_be_empty() -> None:
    image = noise(20, 20, 5).astype(np.float32)
    image[..., 1] = np.nan
    assert np.isfinite(apply("resize=8,channels=0-2-4", image)).all()


# Refusals


@pytest.mark.parametrize(
    ("spec", "image", "message"),
    [
        ("resize=8", noise(4, 4, 5), "the image has 5 bands, and no rule says how they become three channels"),
        ("resize=8", noise(4, 4, 2), "[channels=auto]. Choose bands, for example channels=3-2-1 or 0-1-2-3-4, or"),
        ("channels=5", noise(4, 4, 5), "band 5 is wanted of an image with 5 [channels=5]. Bands are counted from 0."),
        ("channels=0-1-7", noise(4, 4), "band 7 is wanted of an image with 1 [channels=0-1-7]"),
        ("crop=box:0.2", noise(4, 4), "the image has no box to crop to [crop=box:0.2]. Annotate a box, or use crop="),
        ("resize=8", np.full((4, 4), 2, np.float32), "nothing to stretch between 2 and 2: all equal"),
        ("resize=8", np.full((4, 4), np.nan, np.float32), "the image has no finite pixel [stretch]. Remove the image."),
        ("stretch=percentile", np.full((4, 4), 7, np.uint8), "nothing to stretch between 7 and 7: all equal"),
    ],
)
def test_an_image_that_cannot_be_preprocessed(spec: str, image: NDArray, message: str) -> None:
    with pytest.raises(PreprocessingError, match=re.escape(message)):
        apply(spec, image)


@pytest.mark.parametrize(
    ("spec", "dtype", "expected"),
    [
        ("resize=8", np.uint8, np.uint8),
        ("resize=8,resizer=pillow,channels=1", np.uint8, np.uint8),
        ("resize=8,crop=center:0.5,orientation=5", np.uint8, np.uint8),
        ("resize=8", np.uint16, np.float32),
        ("resize=8", np.float32, np.float32),
        ("resize=8,stretch=asinh:0.1", np.uint8, np.float32),
        ("resize=8,channels=mean", np.uint8, np.float32),
        ("resize=8,channels=0-0+1-2", np.uint8, np.float32),
    ],
)
def test_8_bit_pixels_stay_8_bit_where_that_is_exact(spec: str, dtype: type, expected: type) -> None:
    preprocessing, image = (
        Preprocessing.parse(spec),
        np.random.default_rng(0).integers(0, 256, (12, 10, 3)).astype(dtype),
    )
    rendered, applied = preprocessing.render(image, NO_BOXES), preprocessing.apply(image, NO_BOXES)
    assert rendered.dtype == expected
    assert applied.dtype == np.float32
    assert preprocessing.keeps_bytes == (preprocessing.render(image.astype(np.uint8), NO_BOXES).dtype == np.uint8)
    scale = np.float32(255) if expected == np.uint8 else np.float32(1)
    np.testing.assert_array_equal(rendered.astype(np.float32) / scale, applied)
