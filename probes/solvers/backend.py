"""The only choice between NumPy with scikit-learn and, where a CUDA device answers, CuPy with cuML.

The code is the same for both: the solver of protocol ``cv`` is written against either array library, and cuML stands
in for the classes of scikit-learn and umap that it knows. Nothing here has been tested on a GPU: results say which
library ran.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray


@cache
def has_gpu() -> bool:
    """Whether cuML and CuPy are installed and a CUDA device answers."""
    try:
        import_module("cuml")
        return bool(import_module("cupy").cuda.is_available())
    except (ImportError, RuntimeError, OSError):  # an installed CUDA library without its driver fails in any of these
        return False


def array_library() -> Any:
    """CuPy on a GPU, else NumPy."""
    return import_module("cupy") if has_gpu() else np


def to_numpy(array: Any) -> NDArray[Any]:
    """An array of the array library in the memory of the host."""
    return np.asarray(array.get() if has_gpu() else array)


def backend_versions() -> dict[str, str]:
    """Versions of what computes in place of NumPy and scikit-learn; empty without a GPU.

    They are part of the names of cached results: what a GPU found is not taken for what a CPU would find.
    """
    return {name: str(import_module(name).__version__) for name in ("cupy", "cuml")} if has_gpu() else {}


def accelerate() -> bool:
    """Let cuML stand in for scikit-learn and umap from here on, which the log says. Nothing without a GPU.

    Only this call changes them, no import does. It has to come before scikit-learn and umap are loaded, as by most
    modules of this package; what cuML does not know goes on running on the CPU.

    Returns:
        Whether cuML stands in.
    """
    if not has_gpu():
        return False
    import_module("cuml.accel").install()
    logging.getLogger("skyprobe").info("cuML stands in for scikit-learn and umap where it knows them")
    return True
