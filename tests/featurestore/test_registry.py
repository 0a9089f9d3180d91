"""The registry finds built-ins and third parties by the same path, and imports nothing before it must."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from featurestore.errors import MissingDependencyError, UnknownNameError
from featurestore.registry import Registry, unknown_name

GROUP = "skyprobe.test_things"


@pytest.fixture
def things() -> Registry[object]:
    return Registry(GROUP, "thing")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installed distribution of somebody else's, with one entry that works and one that lacks a library."""
    module = "skyprobe_test_plugin"
    (tmp_path / f"{module}.py").write_text("THING = object()\n")
    (tmp_path / "lacking_plugin.py").write_text("import not_installed_library.part\n")
    info = tmp_path / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nspiral = {module}:THING\nlacking = lacking_plugin:THING\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    return module


def test_a_third_party_entry_loads_its_object(plugin: str, things: Registry[object]) -> None:
    assert things.get("spiral") is sys.modules[plugin].THING


def test_names_are_sorted_and_import_nothing(plugin: str, things: Registry[object]) -> None:
    assert things.names() == ["lacking", "spiral"]
    assert plugin not in sys.modules


def test_other_groups_are_not_seen(plugin: str) -> None:
    assert "spiral" not in Registry("skyprobe.other_things", "thing").names()


def test_a_missing_library_is_named_with_its_remedy(plugin: str, things: Registry[object]) -> None:
    with pytest.raises(MissingDependencyError) as caught:
        things.get("lacking")
    assert str(caught.value) == (
        "the thing 'lacking' needs the module 'not_installed_library', which is not installed [lacking_plugin:THING]. "
        "Install it: pip install not_installed_library."
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_the_remedy_names_the_package_of_a_missing_submodule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, things: Registry[object]
) -> None:
    (tmp_path / "half_library").mkdir()
    (tmp_path / "half_library" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint("half", "half_library.runtime:THING", GROUP)]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: entries)
    with pytest.raises(MissingDependencyError, match=r"'half_library\.runtime'.* pip install half_library\.$"):
        things.get("half")


def test_an_unknown_name_offers_the_nearest(plugin: str, things: Registry[object]) -> None:
    with pytest.raises(UnknownNameError) as caught:
        things.get("spirals")
    assert str(caught.value) == "unknown thing 'spirals' [thing]. Did you mean spiral?"


def test_a_name_near_nothing_lists_all(plugin: str, things: Registry[object]) -> None:
    with pytest.raises(UnknownNameError, match=r"^unknown thing 'xyz' \[thing\]\. Known: lacking, spiral\.$"):
        things.get("xyz")


def test_an_empty_group_says_so(things: Registry[object]) -> None:
    with pytest.raises(UnknownNameError, match=r"Known: none\."):
        things.get("spiral")


def test_the_nearest_name_comes_first() -> None:
    error = unknown_name("backbone", "dinov2-vits", ["resnet50", "dinov2-vitb14", "dinov2-vits14"])
    assert error.hint == "Did you mean dinov2-vits14, dinov2-vitb14?"
