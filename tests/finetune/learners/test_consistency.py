from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from finetune.data.rows import TrainingRows
from finetune.learners.classification import Task, plan_fit, run_fit
from finetune.learners.consistency import ConsistencyLearner
from finetune.options import AUGMENTATIONS, ConsistencyOptions

STILL = AUGMENTATIONS["none"]


class Logits(torch.nn.Module):
    """Mean brightness times these numbers: easy to be sure with."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor([8.0, -8.0]))

    def forward(self, pixels):
        return (pixels.mean(dim=(1, 2, 3)) - 0.5)[:, None] * self.slope


def make(consistency, images=None, n_train=6, n_unlabelled=10):
    rows = TrainingRows(
        np.arange(n_train), np.arange(0), np.arange(0), np.arange(n_train, n_train + n_unlabelled), "none"
    )
    return ConsistencyLearner(
        consistency,
        classifier=Logits(),
        stages=[],
        images=images,
        rows=rows,
        labels=np.arange(n_train + n_unlabelled) % 2,
        batch_size=4,
        balanced=False,
        augmentation=STILL,
    )


def test_each_batch_has_unlabelled_rows_in_its_ratio_and_all_are_used_before_any_twice():
    learner = make(ConsistencyOptions(ratio=3))
    batches = learner.batches(np.random.default_rng(0))
    assert [(len(labelled), len(others)) for labelled, others in batches] == [(3, 9), (3, 9)]
    assert sorted(row for labelled, _ in batches for row in labelled) == list(range(6))
    drawn = [row for _, others in batches for row in others]
    assert sorted(drawn[:10]) == list(range(6, 16))
    assert len(set(drawn[10:])) == 8


@pytest.mark.parametrize(("threshold", "believed"), [(0.9, [True, False, True]), (0.5, [True] * 3), (1.0, [False] * 3)])
def test_the_loss_is_that_of_the_paper(threshold, believed):
    options = ConsistencyOptions(ratio=1, threshold=threshold, weight=2.0, weak=STILL, strong=STILL)
    learner = make(options)
    pixels, columns = torch.full((2, 3, 4, 4), 0.2), torch.tensor([0, 1])
    unlabelled = torch.tensor([0.0, 0.45, 0.9]).view(3, 1, 1, 1).expand(3, 3, 4, 4)
    losses = learner.losses((pixels, columns, unlabelled))
    logits = learner.module(unlabelled)
    each = cross_entropy(logits, logits.argmax(dim=1), reduction="none")
    expected = 2.0 * (each * torch.tensor(believed)).sum() / 3
    assert losses["consistency"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert losses["supervised"].item() == pytest.approx(cross_entropy(learner.module(pixels), columns).item())


def test_pseudo_labels_are_constants():
    options = ConsistencyOptions(ratio=1, threshold=0.5, weak=STILL, strong=STILL)
    learner = make(options)
    pixels, columns = torch.full((1, 3, 4, 4), 0.5), torch.tensor([0])
    losses = learner.losses((pixels, columns, torch.full((1, 3, 4, 4), 0.9)))
    losses["consistency"].backward()
    slope = learner.module.slope.detach().requires_grad_(True)
    cross_entropy(0.4 * slope[None], torch.tensor([0])).backward()
    torch.testing.assert_close(learner.module.slope.grad, slope.grad)


def test_a_training_states_its_unlabelled_rows(make_sky_images, quick):
    options = quick("full", consistency=ConsistencyOptions(ratio=1, threshold=0.6))
    images = make_sky_images()
    tuned = run_fit(plan_fit(images, Task("timm:test_resnet", options, 50, 0, weights="random:0")))
    assert tuned.run.protocol == "fixmatch"
    assert tuned.run.params["unlabelled"] == 12
    assert tuned.run.params["consistency"]["threshold"] == 0.6
    assert {"supervised", "consistency"} <= set(tuned.history)
    assert not set(tuned.fit.rows.unlabelled) & {*tuned.fit.rows.test, *tuned.fit.rows.valid, *tuned.fit.rows.train}


def test_the_labels_of_unlabelled_rows_are_not_looked_at():
    class Pixels:
        def batch(self, rows, *, pinned=False):
            return torch.zeros(len(rows), 3, 4, 4)

    learner = make(ConsistencyOptions(ratio=2), images=Pixels())
    learner.labels[learner.rows.unlabelled] = -999
    pixels, columns, unlabelled = learner.load(learner.batches(np.random.default_rng(0))[0])
    assert (len(pixels), len(columns), len(unlabelled)) == (3, 3, 6)
    assert set(columns.tolist()) <= {0, 1}
