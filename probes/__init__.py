"""Probes on stored features: heads over label fractions and seeds, scores, result tables, saved heads.

A name is loaded when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probes.prediction import SavedHead as SavedHead
    from probes.prediction import list_heads as list_heads
    from probes.prediction import load_head as load_head
    from probes.prediction import predict as predict
    from probes.prediction import save_head as save_head
    from probes.results import Run as Run
    from probes.results import format_table as format_table
    from probes.results import summarise as summarise
    from probes.results import to_frame as to_frame
    from probes.results import write_results as write_results
    from probes.significance import compare as compare
    from probes.sweep import cached_sweep as cached_sweep

if find_spec("cuml"):  # it has to come before scikit-learn is loaded, and is part of the extra gpu alone
    from probes.backend import accelerate

    accelerate()

_MODULE_OF = {
    "Run": "results",
    "SavedHead": "prediction",
    "cached_sweep": "sweep",
    "compare": "significance",
    "format_table": "results",
    "list_heads": "prediction",
    "load_head": "prediction",
    "predict": "prediction",
    "save_head": "prediction",
    "summarise": "results",
    "to_frame": "results",
    "write_results": "results",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"probes.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULE_OF)
