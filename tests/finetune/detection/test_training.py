from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from featurestore.datasets.base import Sample
from featurestore.errors import FinetuneError, UnknownNameError, UsageError
from featurestore.preprocessing import Preprocessing
from finetune.detection.augmentation import Augmentation
from finetune.detection.body import load_body, shapes_of
from finetune.detection.detector import Architecture, Detector
from finetune.detection.evaluation import score_detections
from finetune.detection.targets import AnnotatedImage, DetectionImages
from finetune.detection.training import TrainingOptions, detect, make_options, train_detector
from finetune.options import TrainerOptions

SIDE = 64
TINY = Architecture(channels=16, hidden=32, regions=32)
QUICK = TrainingOptions(epochs=3, batch_size=4, learning_rate=0.01, architecture=TINY)
SGD = QUICK.trainer


class Blobs:
    """Images of one to three bright squares on noise; an empty one among them, and one with a crowd region."""

    decoder = "array"

    def __init__(self, count, seed=0):
        rng = np.random.default_rng(seed)
        self.images, self.annotated = [], []
        for row in range(count):
            image = rng.integers(0, 40, (SIDE, SIDE)).astype(np.uint8)
            boxes = []
            for _ in range(rng.integers(1, 3) if row != 1 else 0):
                x, y, size = *rng.integers(0, SIDE - 24, 2), int(rng.integers(12, 24))
                image[y : y + size, x : x + size] = 220
                boxes.append((x, y, x + size, y + size))
            boxes = np.array(boxes, np.float32).reshape(-1, 4)
            crowd = np.zeros(len(boxes), bool)
            if row == 2:
                boxes, crowd = np.append(boxes, [[0, 0, 9, 9]], axis=0).astype(np.float32), np.append(crowd, True)
            self.images.append(image)
            labels, flux = np.zeros(len(boxes), np.int64), np.full(len(boxes), np.nan)
            self.annotated.append(AnnotatedImage(row, f"{row}", (SIDE, SIDE), boxes, labels, crowd, flux))

    def read(self, row):
        return Sample(self.images[row], bytes(16))


def data(count=6, **preprocessing):
    blobs = Blobs(count)
    return DetectionImages(blobs, blobs.annotated, Preprocessing(resize=SIDE, **preprocessing))


def detector(mode="frozen", name="timm:test_efficientnet"):
    body = load_body(name, mode, SIDE, weights="random:0", seed=0)
    torch.manual_seed(0)
    return Detector(body, shapes_of(body, SIDE), SIDE, 1, TINY)


def state_of(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, after):
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


@pytest.mark.parametrize("name", ["timm:test_vit", "timm:test_efficientnet", "timm:test_resnet"])
def test_frozen_means_frozen(name):
    """Parameters and batch statistics of the backbone are the same bits after training; all else has moved."""
    one = detector("frozen", name)
    before = state_of(one)
    train_detector(one, data(), QUICK, 0)
    moved = changed(before, one.state_dict())
    assert not [key for key in moved if key.startswith("body.")]
    trained = {key for key, _ in one.named_parameters() if not key.startswith("body.")}
    assert moved == trained


@pytest.mark.parametrize(("mode", "statistics"), [("tuned", False), ("scratch", True)])
def test_what_other_modes_train(mode, statistics):
    one = detector(mode, "timm:test_resnet")
    before = state_of(one)
    train_detector(one, data(), QUICK, 0)
    moved = changed(before, one.state_dict())
    assert {name for name, _ in one.named_parameters()} <= moved
    assert any("running_mean" in name for name in moved) == statistics


@pytest.mark.parametrize("mode", ["frozen", "tuned", "scratch"])
def test_resumed_training_ends_at_the_same_weights(mode, tmp_path):
    images, path = data(), tmp_path / "checkpoint.pt"
    whole, broken, again = detector(mode), detector(mode), detector(mode)
    history = train_detector(whole, images, QUICK, 0)

    def stop(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_detector(broken, images, QUICK, 0, checkpoint=path, on_epoch=stop)
    resumed = train_detector(again, images, QUICK, 0, checkpoint=path, resume=True)
    assert not changed(whole.state_dict(), again.state_dict())
    assert resumed["loss"].tolist() == history["loss"].tolist()
    assert not again.training


def test_the_seed_decides():
    losses = [train_detector(detector(), data(), QUICK, seed)["loss"].tolist() for seed in (0, 0, 1)]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_a_checkpoint_of_another_training(tmp_path):
    path = tmp_path / "checkpoint.pt"
    train_detector(detector(), data(), replace(QUICK, epochs=1), 0, checkpoint=path)
    for options, seed, images in (
        (replace(QUICK, learning_rate=0.5), 0, data()),
        (QUICK, 1, data()),
        (QUICK, 0, data(5)),
        (QUICK, 0, data(stretch="asinh:0.1")),
    ):
        with pytest.raises(FinetuneError, match=r"the checkpoint belongs to a training of other .*checkpoint\.pt"):
            train_detector(detector(), images, options, seed, checkpoint=path, resume=True)
    with pytest.raises(FinetuneError, match="the checkpoint belongs"):
        train_detector(detector("tuned"), data(), QUICK, 0, checkpoint=path, resume=True)


@pytest.mark.parametrize("changed", ["boxes", "labels", "crowd"])
def test_a_checkpoint_of_other_annotations(tmp_path, changed):
    path, images = tmp_path / "checkpoint.pt", data()
    train_detector(detector(), images, replace(QUICK, epochs=1), 0, checkpoint=path)
    first, *rest = images.annotated
    values = {"boxes": first.boxes + 1, "labels": 1 - first.labels, "crowd": ~first.crowd}
    images.annotated = (replace(first, **{changed: values[changed]}), *rest)
    with pytest.raises(FinetuneError, match="the checkpoint belongs to a training of other options, rows or model"):
        train_detector(detector(), images, replace(QUICK, epochs=1), 0, checkpoint=path, resume=True)


def test_a_checkpoint_of_other_weights_or_of_another_identity(tmp_path):
    path, once = tmp_path / "checkpoint.pt", replace(QUICK, epochs=1)
    train_detector(detector(), data(), once, 0, checkpoint=path, identity="a")
    train_detector(detector(), data(), once, 0, checkpoint=path, identity="a", resume=True)
    other = detector()
    with torch.no_grad():
        next(other.body.parameters()).add_(1e-3)
    for own, identity in ((other, "a"), (detector(), "b")):
        with pytest.raises(FinetuneError, match=r"the checkpoint belongs .*or delete it"):
            train_detector(own, data(), once, 0, checkpoint=path, identity=identity, resume=True)


def test_history_tells_of_losses_and_score():
    options = replace(QUICK, trainer=replace(SGD, score_every=2))
    history = train_detector(detector(), data(), options, 0, score=lambda: 0.25)
    losses = ["loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"]
    assert history["epoch"].tolist() == [1, 2, 3]
    np.testing.assert_allclose(history[losses].sum(axis=1), history["loss"], rtol=1e-5)
    np.testing.assert_array_equal(history["score"], [np.nan, 0.25, 0.25])
    assert history["rate:detector"].tolist() == [0.01] * 3


def test_the_studys_options():
    options = TrainingOptions()
    assert (options.epochs, options.batch_size, options.learning_rate) == (100, 16, 1e-3)
    assert options.trainer == TrainerOptions(
        "sgd", 0.9, "constant", warmup=1, clip=0, patience=0, score_every=10, keep_best=False
    )


def test_no_images():
    with pytest.raises(FinetuneError, match=r"there are no training images \[train\]. Mark images as train"):
        train_detector(detector(), data(0), QUICK, 0)


@pytest.fixture
def one_thread():
    """Sums in one order: with two threads, this short training ends at another minimum."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_eight_images_are_learnt_by_heart():
    """The sanity bar: everything between pixels and score has to fit together for this."""
    images = data(8)
    options = TrainingOptions(
        epochs=60, batch_size=4, learning_rate=0.02, architecture=TINY, augmentation=None,
        trainer=replace(SGD, schedule="cosine", score_every=60),
    )  # fmt: skip
    one = detector("scratch", "timm:test_resnet")
    train_detector(one, images, options, 0)
    assert score_detections(images.annotated, detect(one, images, batch_size=3), ("source",)).map50 > 0.9


def test_options_from_flat_names():
    options = make_options(epochs=5, batch_size=None, blur=0.5, channels=64, device="cpu")
    assert options == TrainingOptions(
        epochs=5, augmentation=Augmentation(blur=0.5), architecture=Architecture(channels=64),
        trainer=replace(SGD, device="cpu"),
    )  # fmt: skip
    assert make_options(augment=False).augmentation is None


def test_options_that_are_refused():
    with pytest.raises(UnknownNameError, match=r"option.*epoch"):
        make_options(epoch=3)
    with pytest.raises(UnknownNameError, match="option"):
        make_options(trainer=3)
    with pytest.raises(UsageError, match=r"epochs should be .* 1 \[epochs=0\]"):
        make_options(epochs=0)
    with pytest.raises(UsageError, match=r"channels should be a valid integer \[channels=2.5\]"):
        make_options(channels=2.5)
