"""The arithmetic below the heads: optimisers, losses, kernels, factorisations."""
