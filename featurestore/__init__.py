"""skyprobe's feature store: embeddings of frozen vision models, extracted once.

Names are loaded when they are first used, so that importing the package costs nothing and never loads torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from featurestore import errors
    from featurestore.featureset import FeatureSet
    from featurestore.key import FeatureKey
    from featurestore.store import FeatureStore, open_store

__all__ = ["FeatureKey", "FeatureSet", "FeatureStore", "errors", "open_store"]

_HOMES = {
    "FeatureKey": "featurestore.key",
    "FeatureSet": "featurestore.featureset",
    "FeatureStore": "featurestore.store",
    "open_store": "featurestore.store",
}


def __getattr__(name: str) -> object:
    if name == "errors":
        return import_module("featurestore.errors")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
