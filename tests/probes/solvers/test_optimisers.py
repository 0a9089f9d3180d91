"""Optimisers against plain PyTorch loops from the same weights in the same order."""

import numpy as np
import pytest

from probes.solvers.network import initialise
from probes.solvers.optimisers import LabelledRows, Schedule, descend, descend_early


@pytest.fixture
def rows():
    return make_rows(150, seed=0)


def make_rows(n, seed):
    rng = np.random.default_rng(seed)
    targets = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    X = (rng.normal(size=(n, 7)) + 0.7 * np.eye(3, 7)[targets]).astype(np.float32)
    return LabelledRows(X, targets, np.array([0.5, 1.1, 3.0], np.float32))


def torch_loop(layers, rows, schedule, rng, make_optimiser):
    import torch

    linears = []
    for weights, biases in layers:
        linear = torch.nn.Linear(weights.shape[1], weights.shape[0])
        linear.load_state_dict({"weight": torch.tensor(weights), "bias": torch.tensor(biases)})
        linears += [linear, torch.nn.ReLU()]
    model = torch.nn.Sequential(*linears[:-1])
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor(rows.class_weights))
    optimiser = make_optimiser(model.parameters())
    X, y = torch.tensor(rows.X), torch.tensor(rows.targets)
    for _ in range(schedule.epochs):
        order = torch.tensor(rng.permutation(len(rows)))
        for batch in order.split(schedule.batch_size):
            optimiser.zero_grad()
            loss(model(X[batch]), y[batch]).backward()
            optimiser.step()
    return [values.detach().numpy() for values in model.parameters()]


@pytest.mark.parametrize("widths", [[7, 3], [7, 7, 3]], ids=["linear", "mlp"])
def test_descend_makes_the_updates_of_torch_sgd(widths, rows):
    import torch

    layers = initialise(widths, np.random.default_rng(1))
    before = [values.copy() for layer in layers for values in layer]
    schedule = Schedule(learning_rate=0.05, batch_size=64, epochs=20)
    ours = descend(layers, rows, schedule, np.random.default_rng(2))
    theirs = torch_loop(
        layers, rows, schedule, np.random.default_rng(2), lambda values: torch.optim.SGD(values, lr=0.05)
    )
    for mine, other, start in zip([v for layer in ours for v in layer], theirs, before, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)
        assert not np.allclose(mine, start, atol=1e-2)
    np.testing.assert_array_equal(layers[0][0], before[0])


@pytest.mark.parametrize("widths", [[7, 3], [7, 7, 3]], ids=["linear", "mlp"])
def test_the_memory_layout_of_the_rows_does_not_matter(widths, rows):
    turned = LabelledRows(np.asfortranarray(rows.X), rows.targets, rows.class_weights)
    schedule = Schedule(learning_rate=0.05, batch_size=64, epochs=2)
    layers = initialise(widths, np.random.default_rng(1))
    ours, other = (descend(layers, given, schedule, np.random.default_rng(2)) for given in (rows, turned))
    np.testing.assert_array_equal(ours[0][0], other[0][0])


def test_descend_early_makes_the_updates_of_torch_adamw(rows):
    import torch

    layers = initialise([7, 16, 3], np.random.default_rng(1))
    schedule = Schedule(learning_rate=0.01, batch_size=32, epochs=12, weight_decay=0.3)
    ours, epoch = descend_early(layers, rows, make_rows(0, seed=1), schedule, np.random.default_rng(2))
    theirs = torch_loop(
        layers,
        rows,
        schedule,
        np.random.default_rng(2),
        lambda values: torch.optim.AdamW(values, lr=0.01, weight_decay=0.3),
    )
    assert epoch == 12
    for mine, other in zip([v for layer in ours for v in layer], theirs, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-4)


def test_the_best_epoch_is_kept_and_patience_ends_the_search(rows):
    valid = make_rows(60, seed=1)
    layers = initialise([7, 16, 3], np.random.default_rng(1))

    def run(epochs, valid, patience=100):
        schedule = Schedule(learning_rate=0.01, batch_size=32, epochs=epochs, patience=patience)
        return descend_early(layers, rows, valid, schedule, np.random.default_rng(2))

    after = [run(epochs, valid=make_rows(0, seed=1))[0] for epochs in range(1, 26)]
    scores = [valid.macro_f1(found) for found in after]
    best = int(np.argmax(scores))
    assert 0 < best < 24
    found, epoch = run(25, valid)
    assert epoch == best + 1
    np.testing.assert_array_equal(found[0][0], after[best][0][0])

    improved = [e for e in range(25) if scores[e] > max(scores[:e], default=-1)]
    stop = next(e for e in range(25) if e - max(i for i in improved if i <= e) >= 2)
    assert run(25, valid, patience=2)[1] == max(i for i in improved if i <= stop) + 1


def test_of_equal_epochs_the_first_is_kept(rows):
    blank = LabelledRows(np.zeros((3, 7), np.float32), np.arange(3), rows.class_weights)  # one prediction for all
    schedule = Schedule(learning_rate=0.01, batch_size=32, epochs=9)
    layers = initialise([7, 16, 3], np.random.default_rng(1))
    assert descend_early(layers, rows, blank, schedule, np.random.default_rng(2))[1] == 1
