from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import FinetuneError, UnknownNameError, UsageError
from finetune.data.images import _pack, _unpack, load_images, to_device

ROWS = np.arange(6)


@given(st.integers(0, 99), st.booleans(), st.booleans())
def test_packing_gives_back_the_same_values(seed, grey, bytes_only):
    rng = np.random.default_rng(seed)
    image = rng.random((1 if grey else 3, 4, 5), dtype=np.float32)
    if bytes_only:
        image = np.rint(image * 255).astype(np.uint8) / np.float32(255)
    image = np.broadcast_to(image, (3, 4, 5))
    packed = _pack(image)
    assert packed.dtype == (np.uint8 if bytes_only else np.float32)
    assert len(packed) == (1 if grey else 3)
    np.testing.assert_array_equal(_unpack(packed), image)


def test_images_are_those_of_the_preprocessing(make_sky, make_sky_images):
    sky = make_sky(6, 0, 0)
    images = make_sky_images("resize=16", sky)
    for row in range(6):
        np.testing.assert_array_equal(images[row], images.preprocessing.apply(sky.images[row], np.empty((0, 4))))
    assert images.batch([4, 1]).shape == (2, 3, 16, 16)
    np.testing.assert_array_equal(images.batch([4, 1])[0].numpy(), images[4])


@pytest.mark.parametrize(("memory", "n_kept"), [(0, 0), (3 * 16 * 16, 3), (2**20, 6)])
def test_images_are_decoded_once_as_far_as_memory_goes(make_sky, memory, n_kept):
    sky = make_sky(6, 0, 0)
    images = load_images(sky, "resize=16", ROWS, memory)
    assert len(images.cached) == n_kept
    images.batch(ROWS)
    assert [sky.decoded[row] for row in ROWS] == [1] * n_kept + [2] * (6 - n_kept)
    np.testing.assert_array_equal(images.batch(ROWS), load_images(sky, "resize=16", ROWS, 2**20).batch(ROWS))


def test_unreadable_images_are_left_out_and_named(make_sky):
    images = load_images(make_sky(6, 0, 0, broken=[2]), "resize=16", ROWS, 2**20)
    assert images.unreadable == {"s002": "the file is truncated"}
    assert images.table.sample_ids == ("s000", "s001", "s003", "s004", "s005")
    np.testing.assert_array_equal(images.rows, [0, 1, 3, 4, 5])
    assert len(images) == 5


def test_a_crop_follows_the_boxes(make_sky, make_boxes):
    sky = make_sky(6, 0, 0, boxes=make_boxes(6))
    images = load_images(sky, "resize=16,crop=box:0", ROWS, 2**20)
    expected = images.preprocessing.apply(sky.images[1][4:20, 4:20], np.float32([[0, 0, 16, 16]]))
    np.testing.assert_array_equal(images[1], expected)


def test_no_readable_image_is_an_error(make_sky):
    with pytest.raises(FinetuneError, match="no image can be read: the file is truncated"):
        load_images(make_sky(6, 0, 0, broken=range(6)), "resize=16", ROWS, 0)


def test_an_unknown_variant_is_an_error(make_sky):
    with pytest.raises(UnknownNameError, match="unknown variant"):
        load_images(make_sky(6, 0, 0), "full-9", ROWS, 0)


def test_other_than_three_channels_are_refused(make_sky):
    with pytest.raises(UsageError, match=r"training takes 3 channels, not 4 \[channels=0-1-2-3\]"):
        load_images(make_sky(6, 0, 0), "resize=8,channels=0-1-2-3", ROWS, 0)


def test_progress_counts_images(make_sky):
    seen = []
    load_images(make_sky(6, 0, 0, broken=[0]), "resize=16", ROWS, 0, lambda *step: seen.append(step))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize("variant", ["resize=16", "resize=16,stretch=asinh:0.1"])
@pytest.mark.parametrize("memory", [0, 2**20])
def test_images_go_to_a_gpu_in_as_few_bytes_as_they_have(make_sky, monkeypatch, variant, memory):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)  # which wants a GPU
    images = load_images(make_sky(6, 0, 0), variant, ROWS, memory)
    packed = images.batch(ROWS, pinned=True)
    assert packed.dtype == (torch.float32 if "asinh" in variant else torch.uint8)
    found = to_device(packed, torch.device("cpu"))
    assert found.dtype == torch.float32
    assert torch.equal(found, images.batch(ROWS))
