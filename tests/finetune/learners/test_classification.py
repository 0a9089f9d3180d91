from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from finetune.freezing import find_blocks
from finetune.learners import classification
from finetune.learners.classification import Task, plan_fit, run_fit
from finetune.learners.supervision import predict
from finetune.models.classifier import Classifier
from finetune.options import TrainerOptions
from probes.results.run import IDENTITY, to_frame
from probes.sweep.splits import split_rows

MODES = ["head", "full", "top:1", "layerwise", "lora", "scratch"]
BACKBONES = ["timm:test_vit", "timm:test_resnet", "timm:test_efficientnet"]


def epochs_of(mode):
    return {"epochs": 7} if mode == "layerwise" else {}


@pytest.fixture
def images(make_sky_images):
    return make_sky_images()


@pytest.fixture
def fit(images, quick):
    def make(mode="full", backbone="timm:test_resnet", *, own=images, fraction=100, seed=0, **given):
        options = quick(mode, **epochs_of(mode) | given)
        weights = None if mode == "scratch" else "random:0"
        return plan_fit(own, Task(backbone, options, fraction, seed, weights=weights))

    return make


def state(tuned):
    return {name: tensor.clone() for name, tensor in tuned.classifier.state_dict().items()}


def stop_after(n):
    def stop(row):
        if row["epoch"] == n:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("mode", MODES)
def test_a_resumed_training_ends_at_the_weights_of_an_uninterrupted_one(tmp_path, fit, mode, backbone):
    whole, path = run_fit(fit(mode, backbone)), tmp_path / "last.pt"
    with pytest.raises(KeyboardInterrupt):
        run_fit(fit(mode, backbone), checkpoint=path, on_epoch=stop_after(2))
    resumed = run_fit(fit(mode, backbone), checkpoint=path, resume=True)
    expected, found = state(whole), state(resumed)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []
    np.testing.assert_array_equal(whole.run.probabilities, resumed.run.probabilities)
    assert whole.run.head == f"finetune:{mode}"
    assert np.isfinite(whole.history["loss"]).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_frozen_backbone_is_bit_identical_after_training(fit, backbone):
    one = fit("head", backbone)
    before = {name: tensor.clone() for name, tensor in one.backbone.tokens.state_dict().items()}
    tuned = run_fit(one)
    after = tuned.classifier.tokens.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


@pytest.mark.parametrize(
    ("mode", "given", "moved"),
    [
        ("full", {}, False),
        ("layerwise", {}, False),
        ("lora", {}, False),
        ("full", {"train_batch_norm": True}, True),
        ("scratch", {}, True),
    ],
)
def test_batch_statistics_of_pretrained_weights_move_on_request_alone(fit, mode, given, moved):
    """In training mode, the statistics of small batches replaced those of the pretraining, and the loss rose."""
    one = fit(mode, trainer=TrainerOptions(device="cpu", keep_best=False), **given)
    before = {name: buffer.clone() for name, buffer in one.backbone.tokens.named_buffers() if "running" in name}
    after = dict(run_fit(one).classifier.tokens.named_buffers())
    assert before
    assert [not torch.equal(before[name], after[name]) for name in before] == [moved] * len(before)


def test_scales_of_batch_normalisation_are_trained_with_fixed_statistics(fit):
    one = fit("full", trainer=TrainerOptions(device="cpu", keep_best=False))
    before = one.backbone.tokens.model.bn1.weight.clone()
    assert not torch.equal(run_fit(one).classifier.tokens.model.bn1.weight, before)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_below_the_top_blocks_everything_is_bit_identical(fit, backbone):
    one = fit("top:1", backbone, trainer=TrainerOptions(device="cpu", keep_best=False))
    blocks = find_blocks(one.backbone.tokens)
    before = [{name: tensor.clone() for name, tensor in block.state_dict().items()} for block in blocks]
    run_fit(one)
    after = [block.state_dict() for block in blocks]
    same = [all(torch.equal(old[name], new[name]) for name in old) for old, new in zip(before, after, strict=True)]
    assert same == [True] * (len(blocks) - 1) + [False]


def test_the_run_has_the_columns_of_a_probe(fit, images):
    tuned = run_fit(fit("full", fraction=50, seed=2))
    run, split = tuned.run, split_rows(images.table)
    assert [getattr(run, name) for name in IDENTITY[:4]] == ["sky", "resize=32", "timm:test_resnet", "avgpool"]
    assert (run.scheme, run.head, run.protocol, run.fraction, run.seed) == (
        "sources",
        "finetune:full",
        "supervised",
        50,
        2,
    )
    assert (run.n_train, run.n_valid, len(run.truth)) == (12, 8, 8)
    assert run.sample_ids == tuple(images.table.sample_ids[row] for row in split.test)
    np.testing.assert_allclose(run.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert set(to_frame([run])["head"]) == {"finetune:full"}
    assert run.params["validation"] == "split"
    assert run.params["epochs_run"] == len(tuned.history)
    assert run.params["trained_share"] == 1.0


def test_the_score_is_the_macro_f1_of_the_saved_epoch(fit, images):
    tuned = run_fit(fit("full"))
    rows = split_rows(images.table).valid
    predicted = predict(tuned.classifier, images, rows, 4).argmax(axis=1)
    expected = f1_score(images.table.labels["sources"][rows], predicted, average="macro")
    saved = tuned.history.set_index("epoch")["score"][tuned.run.params["saved_epoch"]]
    assert saved == pytest.approx(expected) == pytest.approx(tuned.history["score"].max())


def test_it_learns_to_count_sources(make_sky_images, fit, quick):
    images = make_sky_images(train=60, valid=20, test=40)
    trainer = TrainerOptions(device="cpu", patience=0)
    one = fit("scratch", own=images, epochs=12, batch_size=10, learning_rate=3e-3, trainer=trainer)
    assert run_fit(one).run.scores.overall["accuracy"] > 0.9


def test_the_share_that_lora_trains_is_stated_and_bounded(fit):
    params = run_fit(fit("lora", lora_rank=8, lora_share=0.1, epochs=1)).run.params
    assert 0 < params["trained_share"] < 0.1
    assert params["rank"] in (1, 2, 4, 8)


def test_classes_without_training_rows_have_no_probability(make_sky_images, fit):
    labels = np.array([0, 2] * 12 + [0, 2] * 4 + [0, 1] * 4)
    images = make_sky_images(labels={"sources": labels}, classes={"sources": ("one", "three", "two")})
    run = run_fit(fit("head", own=images, epochs=1)).run
    assert run.probabilities.shape == (8, 3)
    assert not run.probabilities[:, 1].any()


def test_identity_and_key_follow_what_decides_the_numbers(fit, make_sky_images):
    base = fit("full")
    assert fit("full").identity == base.identity
    assert fit("full", memory=0).identity == base.identity
    others = [fit("full", seed=1), fit("full", fraction=50)]
    assert {one.key for one in others} == {base.key}
    others += [fit("head"), fit("full", epochs=4), fit("full", own=make_sky_images(seed=1))]
    assert len({one.identity for one in (base, *others)}) == 1 + len(others)
    scratch = [fit("scratch", seed=seed) for seed in (0, 1)]
    assert scratch[0].key == scratch[1].key
    assert scratch[0].backbone.weights_hash != scratch[1].backbone.weights_hash


def test_test_rows_decide_nothing(make_sky, make_sky_images, fit):
    sky, other = make_sky(), make_sky()
    other.images[-8:] = [255 - image for image in other.images[-8:]]
    first, second = (run_fit(fit("full", own=make_sky_images(dataset=one))) for one in (sky, other))
    assert all(torch.equal(one, state(second)[name]) for name, one in state(first).items())


def test_more_processes_make_another_training(fit, monkeypatch):
    """They look at more images a step: neither a checkpoint nor a cached run of one process is theirs."""
    alone = fit("head")
    monkeypatch.setenv("WORLD_SIZE", "2")
    together = fit("head")
    assert alone.identity != together.identity
    assert alone.key != together.key


def test_processes_join_before_anything_goes_to_the_device(fit, monkeypatch):
    """Until then, every process would use the first GPU."""
    events, move = [], Classifier.to
    monkeypatch.setattr(classification, "join_processes", lambda device: events.append(("join", device.type)))
    monkeypatch.setattr(Classifier, "to", lambda self, *place: events.append("move") or move(self, *place))
    run_fit(fit("head"))
    assert events[:2] == [("join", "cpu"), "move"]
