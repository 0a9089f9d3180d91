"""Versions of the installed libraries that can change a number: one list for each kind of number."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

Kind = Literal["extraction", "training", "probing", "projection", "measurement"]

_MODELS = ("skyprobe", "torch", "torchvision", "timm", "transformers", "open_clip_torch")

LIBRARIES: dict[Kind, tuple[str, ...]] = {
    "extraction": (*_MODELS, "openvino", "numpy", "pillow", "astropy", "zarr"),
    "training": (*_MODELS, "peft", "numpy"),
    "probing": ("skyprobe", "numpy", "scipy", "scikit-learn", "numba"),
    "projection": ("numpy", "scikit-learn", "scipy", "umap-learn"),
    "measurement": ("numpy", "astropy"),
}
"""Kind of number -> distributions. Cached results are named by a digest over them: a changed list hides those."""


def library_versions(kind: Kind) -> dict[str, str]:
    """Distribution -> version, of the libraries that can change a number of that kind; only the installed ones."""
    return installed_versions(LIBRARIES[kind])


def installed_versions(distributions: Iterable[str]) -> dict[str, str]:
    """Distribution -> version, of those among them that are installed."""
    found = {}
    for distribution in distributions:
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            continue
    return found
