"""The arithmetic below the heads: losses, optimisers, factorisations; `logistic` is the linear probe's loss."""
