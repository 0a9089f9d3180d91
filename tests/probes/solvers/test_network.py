"""Networks against PyTorch."""

import numpy as np
import pytest

from probes.solvers.network import compute_logits, initialise


def test_initial_weights_have_the_distribution_of_a_torch_layer():
    ((weights, biases),) = initialise([400, 300], np.random.default_rng(0))
    assert weights.shape == (300, 400)
    assert biases.shape == (300,)
    assert weights.dtype == biases.dtype == np.float32
    assert np.abs(weights).max() == pytest.approx(0.05, rel=1e-3)
    assert np.abs(biases).max() == pytest.approx(0.05, rel=0.02)
    assert weights.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("widths", [[6, 3], [6, 8, 3], [6, 8, 5, 3]], ids=str)
def test_logits_equal_torchs(widths):
    import torch

    X = np.random.default_rng(5).normal(size=(17, 6)).astype(np.float32)
    layers = initialise(widths, np.random.default_rng(1))
    output = torch.tensor(X)
    for number, (weights, biases) in enumerate(layers):
        output = output if number == 0 else output.relu()
        output = torch.nn.functional.linear(output, torch.tensor(weights), torch.tensor(biases))
    before = X.copy()
    np.testing.assert_allclose(compute_logits(layers, X), output.numpy(), atol=1e-6)
    np.testing.assert_array_equal(X, before)
