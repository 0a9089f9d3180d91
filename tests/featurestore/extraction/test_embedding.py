"""One batch: decoded once, marked where it cannot be read, and forwarded only where asked."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from featurestore.extraction.embedding import EMPTY, Costs, Task, embed_batch, pad_slots
from featurestore.preprocessing import Preprocessing
from featurestore.samples import Boxes
from featurestore.store.entry import DONE, MISSING, UNREADABLE

SMALL, CENTRE, BOXED = (
    Preprocessing(resize=8),
    Preprocessing(resize=8, crop="center:0.5"),
    Preprocessing(resize=8, crop="box:0"),
)


@pytest.fixture
def task(mean_forward):
    """``task(slots, preprocessing)``."""

    def make(slots, preprocessing=SMALL):
        return Task(preprocessing, mean_forward(["avgpool"], len(slots)), np.array(slots), {"avgpool": "avgpool"})

    return make


def test_slots_are_padded_to_a_fixed_length():
    assert pad_slots(np.array([7, 9]), 4).tolist() == [7, 9, EMPTY, EMPTY]
    assert pad_slots(np.array([], dtype=np.int64), 1).tolist() == [EMPTY]


def test_each_row_is_decoded_once_for_all_tasks(make_dataset, task):
    dataset = make_dataset()
    tasks = [task([3, 5, EMPTY]), task([3, EMPTY, EMPTY], CENTRE), task([EMPTY, 5, 8])]
    embedded, costs = embed_batch(dataset, tasks)
    assert dataset.decoded == {"s003": 1, "s005": 1, "s008": 1}
    assert (costs.images, costs.forwards) == (3, 5)
    assert [one.state.tolist() for one in embedded] == [
        [DONE, DONE, MISSING],
        [DONE, MISSING, MISSING],
        [MISSING, DONE, DONE],
    ]


def test_values_are_those_of_each_image_by_itself(make_dataset, task):
    dataset = make_dataset()
    first, second = embed_batch(dataset, [task([3, 5]), task([3, 5], CENTRE)])[0]
    for embedded, preprocessing in ((first, SMALL), (second, CENTRE)):
        pixels = [preprocessing.apply(dataset.images[row], np.empty((0, 4), np.float32)) for row in (3, 5)]
        np.testing.assert_allclose(embedded.values["avgpool"][:, :3], np.mean(pixels, axis=(2, 3)), atol=1e-6)


def test_variants_are_preprocessed_once_for_all_backbones(make_dataset, task, monkeypatch):
    render, seen = Preprocessing.render, []
    monkeypatch.setattr(Preprocessing, "render", lambda self, *given: seen.append(self) or render(self, *given))
    embed_batch(make_dataset(), [task([1, 2]), task([1, 2]), task([1, 2], CENTRE)])
    assert seen == [SMALL, CENTRE, SMALL, CENTRE]


def test_the_type_of_the_other_images_of_a_batch_does_not_matter(make_dataset, make_images, task):
    eight_bit, floats = make_images(3), [image.astype(np.float32) for image in make_images(3, seed=1)]
    for order in ([0, 1, 2, 3], [2, 3, 0, 1], [0, 2, 1, 3]):
        images = [[*eight_bit[:2], *floats[:2]][number] for number in order]
        together = embed_batch(make_dataset(images), [task([0, 1, 2, 3])])[0][0].values["avgpool"]
        alone = [embed_batch(make_dataset([one]), [task([0])])[0][0].values["avgpool"][0] for one in images]
        np.testing.assert_array_equal(together, alone)


def test_pixels_of_8_bit_images_are_8_bit_until_one_is_not(make_dataset, make_images):
    seen = []

    class Watching:
        shapes, batch_size, small = {"avgpool": (1,)}, 2, False

        def __call__(self, pixels):
            seen.append((pixels.dtype, pixels.shape))
            return {"avgpool": np.zeros((2, 1), np.float32)}

    def watch(images, slots):
        embed_batch(make_dataset(images), [Task(SMALL, Watching(), np.array(slots), {"avgpool": "avgpool"})])

    images = make_images(2)
    watch(images, [0, 1])
    watch([images[0], images[1].astype(np.uint16)], [0, 1])
    assert seen == [(np.uint8, (2, 3, 8, 8)), (np.float32, (2, 3, 8, 8))]


def test_several_batches_of_the_forward_and_those_without_an_image_are_left_out(make_dataset, mean_forward):
    forward, calls = mean_forward(["avgpool"], 2), []

    class Counting:
        shapes, batch_size, small = forward.shapes, 2, False

        def __call__(self, pixels):
            calls.append(len(pixels))
            return forward(pixels)

    dataset, slots = make_dataset(broken={3}), np.array([5, EMPTY, EMPTY, 3, 7, 8])
    (embedded,), costs = embed_batch(dataset, [Task(SMALL, Counting(), slots, {"avgpool": "avgpool"})])
    assert calls == [2, 2]
    assert costs.forwards == 3
    assert embedded.state.tolist() == [DONE, MISSING, MISSING, UNREADABLE, DONE, DONE]
    for slot in (0, 4, 5):
        pixels = SMALL.apply(dataset.images[slots[slot]], np.empty((0, 4), np.float32))
        np.testing.assert_allclose(embedded.values["avgpool"][slot, :3], pixels.mean(axis=(1, 2)), atol=1e-6)


def test_unreadable_images_are_marked_in_the_tasks_that_asked(make_dataset, task):
    first, second = embed_batch(make_dataset(broken={5}), [task([3, 5]), task([3, EMPTY], CENTRE)])[0]
    assert first.state.tolist() == [DONE, UNREADABLE]
    assert first.reasons == {1: "the file is truncated"}
    assert second.state.tolist() == [DONE, MISSING]
    assert second.reasons == {}


def test_a_batch_without_a_readable_image_is_not_forwarded(make_dataset, task):
    (embedded,), costs = embed_batch(make_dataset(broken={0, 1}), [task([0, 1])])
    assert (costs.images, costs.forwards, costs.forward) == (2, 0, 0.0)
    assert embedded.values["avgpool"].shape == (2, 4)
    assert embedded.state.tolist() == [UNREADABLE, UNREADABLE]


def test_content_is_the_digest_of_the_image_and_of_the_boxes_that_cropped_it(make_dataset, make_images, task):
    images = make_images(2)
    xyxy = np.array([[0, 0, 5, 5], [1, 1, 6, 7]], np.float32)
    dataset = make_dataset(images, boxes=Boxes(np.arange(2), xyxy, np.zeros(2, int), np.zeros(2, bool)))
    whole, boxed = embed_batch(dataset, [task([0, 1]), task([0, 1], BOXED)])[0]
    for row, image in enumerate(images):
        own = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
        assert whole.content[row].tobytes() == own
        assert boxed.content[row].tobytes() == hashlib.blake2b(own + xyxy[row].tobytes(), digest_size=16).digest()


def test_an_image_without_a_box_is_unreadable_for_the_box_crop_alone(make_dataset, make_images, task):
    crowd = Boxes(np.array([0, 1]), np.array([[0, 0, 5, 5]] * 2, np.float32), np.zeros(2, int), np.array([False, True]))
    dataset = make_dataset(make_images(2), boxes=crowd)
    whole, boxed = embed_batch(dataset, [task([0, 1]), task([0, 1], BOXED)])[0]
    assert whole.state.tolist() == [DONE, DONE]
    assert boxed.state.tolist() == [DONE, UNREADABLE]
    assert boxed.reasons == {1: "the image has no box to crop to"}


def test_costs_add_up_and_are_counted_when_a_phase_fails():
    total = Costs(decode=1.0, images=2)
    total.add(Costs(decode=0.5, write=3.0, images=1, forwards=4))
    assert total == Costs(decode=1.5, write=3.0, images=3, forwards=4)
    costs = Costs()
    with pytest.raises(KeyError), costs.timed("forward"):
        raise KeyError
    assert costs.forward > 0
