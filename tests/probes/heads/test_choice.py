"""The choice of a candidate: by the score as far as it can tell, else by the loss."""

import numpy as np
import pytest
from scipy.stats import sem

from probes.heads.choice import Trial, choose_steadily, find_near, try_coarsely


@pytest.mark.parametrize(("scores", "losses", "best"), [
    ([[0.8, 0.9, 0.7], [0.6, 0.7, 0.5]], [1, 3, 2], 1),
    ([[0.8, 0.9, 0.6], [0.8, 0.7, 0.5]], [1, 3, 2], 0),
    ([[0.8, 0.9, 0.6], [0.8, 0.7, 0.5]], [3, 1, 2], 1),
    ([[0.8, 0.8], [0.8, 0.8]], [2, 2], 0),
])  # fmt: skip
def test_the_loss_decides_where_the_score_cannot(scores, losses, best):
    assert choose_steadily(np.array(scores), np.array(losses, dtype=float)) == best


def test_without_losses_the_first_as_good_as_the_best_wins():
    assert choose_steadily(np.array([[0.5, 0.8, 0.9, 0.6], [0.4, 0.8, 0.7, 0.5]]), None) == 1
    assert choose_steadily(np.array([[0.5, 0.8, 0.9, 0.6], [0.4, 0.7, 0.9, 0.5]]), None) == 2


def test_near_is_within_standard_errors_of_paired_differences():
    scores = np.random.default_rng(0).normal(size=(6, 9))
    gaps = scores[:, [scores.mean(axis=0).argmax()]] - scores
    for errors in (0.0, 0.5, 2.0):
        np.testing.assert_array_equal(find_near(scores, errors), gaps.mean(axis=0) <= errors * sem(gaps) + 1e-12)


def test_every_other_candidate_is_tried_first_then_those_beside_the_best():
    tried = []

    def attempt(numbers):
        tried.append(numbers.tolist())
        heights = -np.abs(numbers - 5.2)
        return Trial(numbers, np.stack([heights, heights]), -heights, np.zeros((len(numbers), 1), np.float32))

    found = try_coarsely(attempt, 10)
    assert tried == [[0, 2, 4, 6, 8], [5, 7]]
    assert found.numbers.tolist() == [0, 2, 4, 5, 6, 7, 8]
    assert found.numbers[choose_steadily(found.scores, found.losses)] == 5
    assert try_coarsely(attempt, 3).numbers.tolist() == [0, 1, 2]


def test_further_folds_add_up_and_the_last_fit_is_the_start():
    rng = np.random.default_rng(1)
    first, second = (
        Trial(np.arange(3), rng.normal(size=(k, 3)), rng.normal(size=3), np.full((3, 2), k, np.float32)) for k in (5, 4)
    )
    both = first.then(second)
    assert both.scores.shape == (9, 3)
    np.testing.assert_allclose(both.losses, first.losses + second.losses)
    assert (both.starts == 4).all()
