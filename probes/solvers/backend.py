"""The only choice between NumPy with scikit-learn and, where a CUDA device answers, CuPy, and cuML where it is there.

The code is the same for both: the solver of protocol ``cv`` is written against either array library, and cuML stands
in for the classes of scikit-learn and umap that it knows. Nothing here has been tested on a GPU: results say which
library ran.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ENABLED = "CUML_ACCEL_ENABLED"
"""What cuML leaves in the environment, by which every later process would load it."""


@cache
def has_gpu() -> bool:
    """Whether CuPy is installed and a CUDA device answers."""
    try:
        return bool(import_module("cupy").cuda.is_available())
    except (ImportError, RuntimeError, OSError):  # an installed CUDA library without its driver fails in any of these
        return False


def array_library() -> Any:
    """CuPy on a GPU, else NumPy."""
    return import_module("cupy") if has_gpu() else np


def to_numpy(array: Any) -> NDArray[Any]:
    """An array of the array library in the memory of the host."""
    return np.asarray(array.get() if has_gpu() else array)


def accelerate() -> bool:
    """Let cuML stand in for scikit-learn and umap from here on, which the log says. Nothing without it or a GPU.

    Only this call changes them, no import does. It has to come before scikit-learn and umap are loaded, as by most
    modules of this package; what cuML does not know goes on running on the CPU. The GPU's memory stays the GPU's: no
    page of it moves to the host unasked. Processes that are started later are left alone.

    Returns:
        Whether cuML stands in.
    """
    if not has_gpu():
        return False
    before = os.environ.get(_ENABLED)
    try:
        import_module("cuml.accel").install(disable_uvm=True)
    except (ImportError, RuntimeError, OSError):
        return False
    finally:
        if before is None:
            os.environ.pop(_ENABLED, None)
    logging.getLogger("skyprobe").info("cuML stands in for scikit-learn and umap where it knows them")
    return True


def is_accelerated() -> bool:
    """Whether cuML stands in for scikit-learn and umap."""
    module = sys.modules.get("cuml.accel")
    return bool(module and module.enabled())


def backend_versions() -> dict[str, str]:
    """Versions of what computes in place of NumPy and scikit-learn; empty without a GPU.

    They are part of the names of cached results: what a GPU found is not taken for what a CPU would find.
    """
    used = ("cupy", *(("cuml",) if is_accelerated() else ())) if has_gpu() else ()
    return {name: str(import_module(name).__version__) for name in used}
