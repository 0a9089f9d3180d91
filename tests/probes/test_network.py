"""Networks against PyTorch."""

import numpy as np
import pytest

from probes.network import compute_gradients, compute_logits, initialise


@pytest.fixture
def batch():
    rng = np.random.default_rng(5)
    return rng.normal(size=(17, 6)).astype(np.float32), rng.integers(0, 3, 17), np.array([0.5, 1.0, 4.0], np.float32)


def test_initial_weights_have_the_distribution_of_a_torch_layer():
    ((weights, biases),) = initialise([400, 300], np.random.default_rng(0))
    assert weights.shape == (300, 400)
    assert biases.shape == (300,)
    assert weights.dtype == biases.dtype == np.float32
    assert np.abs(weights).max() == pytest.approx(0.05, rel=1e-3)
    assert np.abs(biases).max() == pytest.approx(0.05, rel=0.02)
    assert weights.std() == pytest.approx(0.05 / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("widths", [[6, 3], [6, 8, 3], [6, 8, 5, 3]], ids=str)
def test_logits_and_gradients_equal_torchs(widths, batch):
    import torch

    X, columns, class_weights = batch
    layers = initialise(widths, np.random.default_rng(1))
    tensors = [torch.tensor(values, requires_grad=True) for layer in layers for values in layer]
    output = torch.tensor(X)
    for number in range(len(layers)):
        output = torch.nn.functional.linear(output if number == 0 else output.relu(), *tensors[2 * number :][:2])
    torch.nn.CrossEntropyLoss(torch.tensor(class_weights))(output, torch.tensor(columns)).backward()

    np.testing.assert_allclose(compute_logits(layers, X), output.detach().numpy(), atol=1e-6)
    gradients = compute_gradients(layers, X, columns, class_weights)
    for ours, theirs in zip([values for layer in gradients for values in layer], tensors, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-6)
