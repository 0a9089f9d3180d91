from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from finetune.data.augmentation import add_noise, augment, draw_matrices, erase, move, noise_level
from finetune.options import AUGMENTATIONS, Augmentation, ConsistencyOptions


@pytest.fixture
def images():
    return torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def turn(degrees, flip=(1.0, 1.0), n=6):
    angle = math.radians(degrees)
    matrix = torch.tensor([[math.cos(angle), -math.sin(angle), 0.0], [math.sin(angle), math.cos(angle), 0.0]])
    matrix[:, :2] *= torch.tensor(flip)
    return matrix.expand(n, 2, 3)


def test_nothing_is_done_if_nothing_is_asked_for(images):
    assert torch.equal(augment(images, AUGMENTATIONS["none"]), images)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_quarter_turn_is_that_of_torch(images, quarters):
    torch.testing.assert_close(
        move(images, turn(90 * quarters)), torch.rot90(images, quarters, (2, 3)), atol=1e-5, rtol=0
    )


def test_flips_are_those_of_torch(images):
    torch.testing.assert_close(move(images, turn(0, (-1.0, 1.0))), images.flip(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(move(images, turn(0, (1.0, -1.0))), images.flip(2), atol=1e-6, rtol=0)


def test_a_shift_moves_by_pixels(images):
    matrices = turn(0).clone()
    matrices[:, 0, 2] = 2 * 3 / 16
    torch.testing.assert_close(move(images, matrices)[..., :-3], images[..., 3:], atol=1e-5, rtol=0)


def test_flips_alone_are_one_of_four_copies(images):
    torch.manual_seed(0)
    for before, after in zip(images, augment(images, Augmentation()), strict=True):
        copies = [before, before.flip(2), before.flip(1), before.flip((1, 2))]
        assert sum(torch.allclose(after, copy, atol=1e-6) for copy in copies) == 1


@settings(max_examples=25)
@given(st.floats(0, 180), st.floats(0, 0.5), st.floats(0, 0.9), st.booleans(), st.integers(0, 99))
def test_matrices_stay_within_their_bounds(rotation, shift, zoom, flips, seed):
    torch.manual_seed(seed)
    matrices = draw_matrices(50, Augmentation(flips, rotation, shift, zoom)).double()
    scale = matrices[:, :, :2].det().abs().sqrt()
    assert bool((scale >= 1 / (1 + zoom) - 1e-5).all() and (scale <= 1 / (1 - zoom) + 1e-5).all())
    assert float(matrices[:, :, 2].abs().max()) <= 2 * shift + 1e-6
    if not flips:
        angle = torch.rad2deg(torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]))
        assert float(angle.abs().max()) <= rotation + 1e-3


def test_all_orientations_are_drawn():
    torch.manual_seed(0)
    matrices = draw_matrices(2000, Augmentation(flips=False, rotation=180.0))
    angle = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0])
    counts, _ = np.histogram(angle.numpy(), bins=8, range=(-math.pi, math.pi))
    assert counts.min() > 200


@settings(max_examples=20)
@given(st.floats(0.01, 0.1), st.integers(0, 99))
def test_the_noise_level_is_the_scaled_deviation_and_sources_hardly_move_it(sigma, seed):
    rng = np.random.default_rng(seed)
    image = 0.3 + sigma * rng.normal(size=(2, 3, 24, 24))
    image[:, :, 4:8, 4:8] += 0.5
    found = noise_level(torch.from_numpy(image))
    expected = median_abs_deviation(image.reshape(2, 3, -1), axis=2, scale="normal")
    assert found.shape == (2, 3, 1, 1)
    np.testing.assert_allclose(found.numpy()[..., 0, 0], expected, rtol=0.02)
    np.testing.assert_allclose(found.numpy(), sigma, rtol=0.25)


def test_noise_is_added_at_the_images_own_level():
    torch.manual_seed(0)
    faint, bright = torch.randn(1, 1, 64, 64) * 0.01, torch.randn(1, 1, 64, 64) * 0.1
    images = torch.cat([faint, bright]).expand(2, 3, 64, 64).repeat(100, 1, 1, 1)
    added = (add_noise(images, 1.0) - images).std(dim=(1, 2, 3))
    assert float(added[::2].max()) < 0.012 and float(added[1::2].max()) < 0.12
    assert float(added[1::2].mean() / added[::2].mean()) == pytest.approx(10, rel=0.3)


def test_grey_images_stay_grey_and_a_blank_sky_stays_blank(images):
    grey = images[:, :1].expand(-1, 3, -1, -1)
    noisy = add_noise(torch.cat([grey, images]), 1.0)
    assert torch.equal(noisy[:6, 0], noisy[:6, 2])
    assert not torch.equal(noisy[6:, 0] - images[:, 0], noisy[6:, 2] - images[:, 2])
    blank = torch.zeros(2, 3, 8, 8)
    blank[:, :, 3, 3] = 1.0
    assert torch.equal(add_noise(blank, 1.0), blank)


def test_what_is_erased_is_a_square_of_the_median_within_the_share():
    torch.manual_seed(1)
    images = torch.rand(40, 3, 20, 20)
    erased = erase(images, 0.25)
    changed = (erased != images).any(dim=1)
    assert float(changed.float().mean(dim=(1, 2)).max()) <= 0.25 + 0.05
    assert bool(changed.any())
    medians = images.flatten(2).median(dim=2).values
    for image, mask, median in zip(erased, changed, medians, strict=True):
        assert torch.equal(image[:, mask], median[:, None].expand(-1, int(mask.sum())))


@pytest.mark.parametrize("how", [*AUGMENTATIONS.values(), ConsistencyOptions().strong, Augmentation(jitter=0.3)])
def test_the_range_is_kept_and_the_seed_decides(images, how):
    torch.manual_seed(5)
    first = augment(images, how)
    torch.manual_seed(5)
    second = augment(images, how)
    assert torch.equal(first, second)
    assert first.shape == images.shape
    assert float(first.min()) >= 0 and float(first.max()) <= 1


def test_each_image_is_changed_in_its_own_way(images):
    torch.manual_seed(0)
    copies = augment(images[:1].expand(6, -1, -1, -1), AUGMENTATIONS["sky"])
    assert not any(torch.allclose(copies[0], other) for other in copies[1:])
