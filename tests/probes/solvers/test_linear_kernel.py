"""The kernel of the linear layer against torch.optim.SGD, from the same weights in the same order."""

import numpy as np
import pytest

from probes.solvers.linear_kernel import run_epoch
from probes.solvers.network import initialise

RATE = np.float32(5e-3)


@pytest.fixture(params=[2, 3, 4, 6], ids=lambda n_classes: f"{n_classes} classes")
def problem(request):
    """Weights, biases, X, targets, class weights; the number of features fills no whole vector register."""
    rng = np.random.default_rng(0)
    n, d, n_classes = 333, 101, request.param
    ((weights, biases),) = initialise([d, n_classes], rng)
    targets = rng.integers(0, n_classes, n)
    X = rng.normal(size=(n, d)) + rng.normal(size=(n_classes, d))[targets] * 0.3
    return weights, biases, X.astype(np.float32), targets, rng.uniform(0.2, 5, n_classes).astype(np.float32)


def run_torch(weights, biases, X, targets, class_weights, order, batch_size):
    import torch

    layer = torch.nn.Linear(weights.shape[1], weights.shape[0])
    layer.load_state_dict({"weight": torch.tensor(weights), "bias": torch.tensor(biases)})
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor(class_weights))
    optimiser = torch.optim.SGD(layer.parameters(), lr=float(RATE))
    for batch in torch.tensor(order).split(batch_size):
        optimiser.zero_grad()
        loss(layer(torch.tensor(X)[batch]), torch.tensor(targets)[batch]).backward()
        optimiser.step()
    return layer.weight.detach().numpy(), layer.bias.detach().numpy()


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("batch_size", [1, 6, 64, 1000])
def test_the_steps_are_those_of_torch(problem, batch_size, weighted):
    weights, biases, X, targets, class_weights = problem
    class_weights = class_weights if weighted else np.ones_like(class_weights)
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(len(X)) for _ in range(3)])  # 999 rows: the last batch is short
    theirs = run_torch(weights, biases, X, targets, class_weights, order, batch_size)
    start = weights.copy()
    run_epoch(weights, biases, X, targets, class_weights, order, RATE, batch_size)
    np.testing.assert_allclose(weights, theirs[0], atol=1e-5)
    np.testing.assert_allclose(biases, theirs[1], atol=1e-5)
    assert np.abs(weights - start).max() > 1e-4


def test_two_hundred_epochs_end_where_torch_ends(problem):
    weights, biases, X, targets, class_weights = problem
    rng = np.random.default_rng(1)
    order = np.concatenate([rng.permutation(len(X))[:320] for _ in range(200)])
    theirs = run_torch(weights, biases, X, targets, class_weights, order, 64)
    run_epoch(weights, biases, X, targets, class_weights, order, RATE, 64)
    np.testing.assert_allclose(weights, theirs[0], atol=1e-4)
    np.testing.assert_allclose(biases, theirs[1], atol=1e-4)


def test_whole_batches_may_come_from_buffers_one_after_the_other(problem):
    weights, biases, X, targets, class_weights = problem
    order = np.random.default_rng(1).permutation(len(X))
    at_once = weights.copy(), biases.copy()
    run_epoch(*at_once, X, targets, class_weights, order, RATE, 64)
    for start in range(0, len(X), 128):
        rows = order[start : start + 128]
        run_epoch(weights, biases, X[rows], targets[rows], class_weights, np.arange(len(rows)), RATE, 64)
    np.testing.assert_array_equal(weights, at_once[0])
    np.testing.assert_array_equal(biases, at_once[1])


def test_weights_that_diverge_end_as_nan_and_not_as_a_finite_number(problem):
    weights, biases, X, targets, class_weights = problem
    run_epoch(weights, biases, X * np.float32(1e30), targets, class_weights, np.arange(len(X)), np.float32(1e30), 64)
    assert np.isnan(weights).any()
