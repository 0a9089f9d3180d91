from __future__ import annotations

from importlib.metadata import version

import pytest

from featurestore.versions import LIBRARIES, installed_versions, library_versions


def test_the_lists_are_those_that_cached_results_were_named_by() -> None:
    """A change here hides every cached run, projection and measurement of that kind: is that meant?"""
    models = {"skyprobe", "torch", "torchvision", "timm", "transformers", "open_clip_torch"}
    assert {kind: set(libraries) for kind, libraries in LIBRARIES.items()} == {
        "extraction": models | {"openvino", "numpy", "pillow", "astropy", "zarr"},
        "training": models | {"peft", "numpy"},
        "probing": {"skyprobe", "numpy", "scipy", "scikit-learn", "numba"},
        "projection": {"numpy", "scikit-learn", "scipy", "umap-learn"},
        "measurement": {"numpy", "astropy"},
    }


@pytest.mark.parametrize("kind", LIBRARIES)
def test_versions_are_those_of_the_installed(kind: str) -> None:
    found = library_versions(kind)
    assert found
    assert found == {name: version(name) for name in found}


def test_what_is_not_installed_is_left_out() -> None:
    assert installed_versions(["numpy", "no-such-distribution"]) == {"numpy": version("numpy")}
