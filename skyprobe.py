"""skyprobe in a notebook: open a store, load features, extract, probe.

    import skyprobe
    skyprobe.extract("galaxies/", "dinov2-b")
    features = skyprobe.open("skyprobe.zarr").load("galaxies", "dinov2-b", "full-224")
    features.X, features.y()

Importing this module loads no torch, scikit-learn or pandas; names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from featurestore import errors
from studies.notebook import Features, ProbeResult, Store, extract, probe
from studies.notebook import open_store as open  # noqa: A004 (skyprobe.open, as zarr.open and xarray.open_zarr)

if TYPE_CHECKING:
    from featurestore.datasets import open_dataset
    from featurestore.preprocessing import Preprocessing
    from probes.heads.centroid import CentroidProbe
    from probes.heads.knn import KNNProbe
    from probes.heads.linear import LinearProbe
    from probes.heads.mlp import MLPProbe

__all__ = [
    "CentroidProbe", "Features", "KNNProbe", "LinearProbe", "MLPProbe", "Preprocessing", "ProbeResult", "Store",
    "errors", "extract", "open", "open_dataset", "probe",
]  # fmt: skip

_HOMES = {
    "CentroidProbe": "probes.heads.centroid",
    "KNNProbe": "probes.heads.knn",
    "LinearProbe": "probes.heads.linear",
    "MLPProbe": "probes.heads.mlp",
    "Preprocessing": "featurestore.preprocessing",
    "open_dataset": "featurestore.datasets",
}
"""lazy_loader knows packages only; this is one module."""

try:
    __version__ = version("skyprobe")
except PackageNotFoundError:
    __version__ = "unknown"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
