"""The facade: light to import, and every name it lists leads somewhere."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import skyprobe

ROOT = Path(__file__).parents[1]


def test_importing_loads_nothing_heavy():
    heavy = "{'torch', 'timm', 'sklearn', 'pandas', 'scipy', 'zarr', 'numba', 'matplotlib', 'astropy', 'PIL', 'cuml'}"
    code = f"import sys, skyprobe; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", skyprobe.__all__)
def test_every_name_leads_somewhere(name):
    assert getattr(skyprobe, name).__doc__
    assert name in dir(skyprobe)


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'skyprobe' has no attribute 'nothing'"):
        skyprobe.nothing  # noqa: B018


def test_every_package_that_is_installed_carries_its_types():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    installed = build["targets"]["wheel"]["only-include"]
    assert "skyprobe.py" in installed
    assert all((ROOT / name / "py.typed").is_file() for name in installed if not name.endswith(".py"))
