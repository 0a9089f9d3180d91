"""Gradients of networks against PyTorch; the epochs are compared with torch's optimisers in test_optimisers."""

import numpy as np
import pytest

from probes.solvers.network import initialise
from probes.solvers.network_kernel import differentiate


@pytest.mark.parametrize("n", [1, 17])
@pytest.mark.parametrize("widths", [[6, 3], [6, 8, 3], [6, 8, 5, 3]], ids=str)
def test_gradients_equal_torchs(widths, n):
    import torch

    rng = np.random.default_rng(5)
    X, targets = rng.normal(size=(30, 6)).astype(np.float32), rng.integers(0, 3, 30)
    batch, class_weights = rng.permutation(30)[:n], np.array([0.5, 1.0, 4.0], np.float32)
    layers = initialise(widths, np.random.default_rng(1))
    tensors = [torch.tensor(values, requires_grad=True) for layer in layers for values in layer]
    output = torch.tensor(X[batch])
    for number in range(len(layers)):
        output = torch.nn.functional.linear(output if number == 0 else output.relu(), *tensors[2 * number :][:2])
    torch.nn.CrossEntropyLoss(torch.tensor(class_weights))(output, torch.tensor(targets[batch])).backward()

    gradients = tuple((np.full_like(weights, np.nan), np.full_like(biases, np.nan)) for weights, biases in layers)
    differentiate(tuple(layers), gradients, X, targets, class_weights, batch)
    for ours, theirs in zip([values for layer in gradients for values in layer], tensors, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-6)
