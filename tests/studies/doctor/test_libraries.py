"""Libraries are held against what pyproject asks for."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
from packaging.requirements import Requirement

from studies.doctor import libraries
from studies.doctor.libraries import examine_libraries, find_wrong

ASKED = [
    "numpy>=2.0",
    "zarr<4,>=3.1.5",
    'openvino>=2025.4; extra == "cpu"',
    'cuml-cu13>=26.4; sys_platform == "linux" and extra == "gpu"',
    'skyprobe[cpu]; extra == "demo"',
    'pytest>=8; extra == "test"',
]


class Extras:
    def get_all(self, name):
        assert name == "Provides-Extra"
        return ["cpu", "gpu", "demo", "test"]


@pytest.fixture
def installed(monkeypatch):
    """Distribution -> version, of what is installed; what skyprobe asks for is `ASKED`."""
    found = {"skyprobe": "0.1", "numpy": "2.1", "zarr": "3.1.6", "openvino": "2026.1"}

    def version(name):
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(libraries, "version", version)
    monkeypatch.setattr(libraries, "requires", lambda name: ASKED)
    monkeypatch.setattr(libraries, "metadata", lambda name: Extras())
    return found


def examine(*, has_gpu=False):
    return {one.part: one for one in examine_libraries(has_gpu=has_gpu)}


def test_all_is_there(installed):
    found = examine()
    assert {part: one.state for part, one in found.items()} == {
        "libraries": "ok",
        "extra cpu": "ok",
        "extra demo": "ok",
    }
    assert found["libraries"].found == "all 2 that skyprobe needs, skyprobe 0.1"


def test_what_skyprobe_needs_is_broken_where_it_is_absent_or_too_old(installed):
    del installed["numpy"]
    installed["zarr"] = "3.0"
    found = examine()["libraries"]
    assert found.state == "broken"
    assert found.found == "numpy is not installed; zarr 3.0 is not <4,>=3.1.5"
    assert found.mend == "pip install --upgrade skyprobe"


def test_an_extra_that_is_absent_is_a_note_with_the_command(installed):
    del installed["openvino"]
    found = examine()["extra cpu"]
    assert (found.state, found.mend) == ("note", "pip install 'skyprobe[cpu]'")


def test_the_extra_for_gpus_is_asked_for_where_there_is_one(installed):
    assert "extra gpu" not in examine()
    assert examine(has_gpu=True)["extra gpu"].found == "cuml-cu13 is not installed"


def test_a_skyprobe_that_is_not_installed(monkeypatch):
    def requires(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(libraries, "requires", requires)
    assert examine()["libraries"].state == "broken"


def test_versions_before_a_release_count(installed):
    installed["numpy"] = "2.5.0rc1"
    assert find_wrong([Requirement("numpy>=2.0")]) == []
