"""Learning from labels: batches hold every training row, and the score is scikit-learn's macro-F1."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import nn

from finetune.data.rows import TrainingRows
from finetune.learners.supervision import SupervisedLearner, pixel_batches, predict
from finetune.options import AUGMENTATIONS

LABELS = np.array([3, 5, 5, 5, 3, 5, 5, 3, -1])
"""Training rows have the labels 3 and 5 of more classes."""


class Levels(nn.Module):
    """Logits of two classes from the mean of an image; eval mode and training mode do the same."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 2)
        nn.init.constant_(self.layer.bias, 0.0)
        with torch.no_grad():
            self.layer.weight.copy_(torch.tensor([[-1.0], [1.0]]))

    def forward(self, pixels):
        return self.layer(pixels.mean(dim=(1, 2, 3))[:, None] - 0.5)


class Images:
    """Each image has one value."""

    def __init__(self, values):
        self.values = torch.tensor(values, dtype=torch.float32)

    def batch(self, rows, *, pinned=False):
        return self.values[np.asarray(rows)][:, None, None, None].expand(-1, 3, 8, 8)


@pytest.fixture
def learner():
    rows = [np.array(part, dtype=np.int64) for part in ([0, 1, 2, 3], [4, 5, 6, 7], [], [8])]
    return SupervisedLearner(
        Levels(),
        (),
        Images([0.1, 0.9, 0.8, 0.7, 0.2, 0.3, 0.9, 0.6, 0.5]),
        TrainingRows(*rows, "split"),
        LABELS,
        batch_size=3,
        balanced=True,
        augmentation=AUGMENTATIONS["none"],
    )


def test_an_epoch_sees_each_training_row_once(learner):
    batches = learner.batches(np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == [0, 1, 2, 3]
    assert [len(batch) for batch in batches] == [2, 2]
    assert learner.classes.tolist() == [3, 5]


def test_classes_weigh_the_same_in_the_loss(learner):
    """One row of class 3 weighs as much as three of class 5."""
    pixels, columns = learner.load(np.array([0, 1, 2, 3]))
    assert columns.tolist() == [0, 1, 1, 1]
    each = nn.functional.cross_entropy(learner.module(pixels), columns, reduction="none")
    expected = (each[0] + each[1:].mean()) / 2
    torch.testing.assert_close(learner.losses((pixels, columns))["supervised"], expected)


def test_the_score_is_the_macro_f1_of_the_validation_rows(learner):
    predicted = np.array([3, 3, 5, 5])
    assert learner.score() == pytest.approx(f1_score(LABELS[4:8], predicted, average="macro"))


def test_without_validation_rows_there_is_no_score(learner):
    learner.rows = TrainingRows(learner.rows.train, *[np.empty(0, np.int64)] * 3, "none")
    assert np.isnan(learner.score())


def test_predictions_are_in_the_order_of_the_rows(learner):
    rows = np.array([2, 0, 7])
    assert [len(batch) for batch in pixel_batches(learner.images, rows, 2, torch.device("cpu"))] == [2, 1]
    found = predict(learner.module, learner.images, rows, 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)
    assert found.argmax(axis=1).tolist() == [1, 0, 1]
