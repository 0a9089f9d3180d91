"""Feature matrices of the toy dataset with given values."""

from dataclasses import replace

import numpy as np
import pytest


@pytest.fixture
def features_of(make_features, make_key):
    """``features_of(values, labels=..., backbone=..., **table)``: float32 features with these values."""

    def make(values, labels=None, backbone="net_b", **table):
        labels = np.arange(len(values)) % 3 if labels is None else labels
        made = make_features(labels, key=make_key(backbone=backbone, dtype="float32"), **table)
        return replace(made, backbone=backbone, values=np.asarray(values, dtype=np.float32))

    return make
