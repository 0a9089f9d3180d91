"""Rows, and packages of small benchmark programs."""

from __future__ import annotations

import pytest

from benchmarks.row import Row

GOOD = """
from benchmarks.row import Row

def measure():
    print("a library that talks")
    yield Row("first", "s", 1.0, 2.0, 1.5)
    yield Row("second", "s", 1.0, 2.0, 1.5, at_most=True, peers={"plain loop": 3.0}, note="noted")
"""

FAILING = """
from benchmarks.row import Row

def measure():
    yield Row("before", "s", 1.0, 2.0)
    raise RuntimeError("no more disk")
"""

KILLED = """
import os

def measure():
    os._exit(3)
    yield
"""


@pytest.fixture
def package(tmp_path):
    """A package with a program that works, two that fail, a helper module and a package of helpers."""
    folder = tmp_path / "measured"
    (folder / "helpers").mkdir(parents=True)
    sources = {"good": GOOD, "failing": FAILING, "killed": KILLED, "__init__": "", "helpers/__init__": GOOD}
    sources |= {"tools": "raise ImportError('nobody imports this')\n\ndef format_measure(): ...\n"}
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source, encoding="utf-8")
    return folder


@pytest.fixture
def make_row():
    """A saved row with the given fields."""

    def make(program="good", **fields):
        row = Row(**({"what": "sweep", "unit": "s", "ours": 1.0, "ratio": 2.0} | fields))
        return {"program": program, **row.to_dict()}

    return make
