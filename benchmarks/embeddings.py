"""Features to measure with: the spectrum of real embeddings, and classes that a linear layer tells apart at F1 0.8."""

from __future__ import annotations

import numpy as np

from featurestore.samples import SampleTable
from featurestore.store.features import FeatureSet
from featurestore.store.key import FeatureKey

SEPARATION = {4: 0.27, 6: 0.3}
"""Number of classes -> spread of their centres along each of the leading directions, in its standard deviations."""


def make_features(
    n_train: int, n_test: int, n_features: int, n_classes: int, *, separation: float | None = None
) -> FeatureSet:
    """Correlated float32 features whose variances decay as 1 / rank, with a train and a test split.

    Args:
        n_train: Training rows.
        n_test: Test rows.
        n_features: Width.
        n_classes: Classes; the first is the most frequent, by a factor of two over the last.
        separation: Distance of the classes; None for one at which the study's SGD reaches F1 0.8.
    """
    rng = np.random.default_rng(0)
    n = n_train + n_test
    share = np.linspace(2, 1, n_classes)
    labels = rng.choice(n_classes, n, p=share / share.sum())
    centres = (separation or SEPARATION[n_classes]) * rng.standard_normal((n_classes, n_features))
    latent = rng.standard_normal((n, n_features)) + centres[labels] * (np.arange(n_features) < 64)
    rotation = np.linalg.qr(rng.standard_normal((n_features, n_features)))[0]
    values = (latent * np.arange(1, n_features + 1) ** -0.5) @ rotation
    table = SampleTable(
        name="synthetic",
        sample_ids=tuple(f"{row:06d}" for row in range(n)),
        labels={"kind": labels},
        classes={"kind": tuple(f"class {label}" for label in range(n_classes))},
        splits=np.repeat(["train", "test"], [n_train, n_test]),
        fingerprints=np.zeros(n, dtype=np.uint64),
    )
    key = FeatureKey({}, "synthetic", "none:synthetic", "", "", "last", "none", "fp32", "cpu", "float32")
    return FeatureSet("none", "synthetic", "avgpool", key, values.astype(np.float32), table)
