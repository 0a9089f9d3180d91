"""The choice between NumPy and CuPy, with stand-ins for the modules that need a GPU."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from probes.solvers.backend import accelerate, array_library, backend_versions, has_gpu, is_accelerated, to_numpy


@pytest.fixture
def install(monkeypatch):
    """``install(has_device)`` puts stand-ins of cuML and CuPy in place; an exception is raised where CuPy asks."""
    installed = []

    def put(has_device):
        def answer():
            if isinstance(has_device, Exception):
                raise has_device
            return has_device

        cuda = SimpleNamespace(is_available=answer)
        monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=cuda, __version__="13.3.0"))
        monkeypatch.setitem(sys.modules, "cuml", SimpleNamespace(__version__="25.02"))

        def stand_in(**options):
            installed.append(options)
            os.environ.setdefault("CUML_ACCEL_ENABLED", "1")  # as cuML does

        accel = SimpleNamespace(install=stand_in, enabled=lambda: bool(installed))
        monkeypatch.setitem(sys.modules, "cuml.accel", accel)
        return installed

    has_gpu.cache_clear()
    yield put
    has_gpu.cache_clear()


def test_cupy_runs_without_cuml(install, monkeypatch):
    installed = install(True)
    monkeypatch.setitem(sys.modules, "cuml.accel", None)
    assert not accelerate()
    assert installed == []
    assert array_library() is sys.modules["cupy"]


def test_without_cupy_numpy_runs(install, monkeypatch):
    installed = install(True)
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert not accelerate()
    assert installed == []
    assert array_library() is np
    assert to_numpy(np.arange(3)).tolist() == [0, 1, 2]


@pytest.mark.parametrize("answer", [False, RuntimeError("no driver"), OSError("libcuda.so.1")], ids=repr)
def test_without_a_device_numpy_runs(install, answer):
    installed = install(answer)
    accelerate()
    assert array_library() is np
    assert installed == []


def test_with_a_device_cupy_runs_and_cuml_stands_in(install):
    installed = install(True)
    assert accelerate()
    assert installed == [{"disable_uvm": True}]  # no memory that moves to the host unasked
    assert is_accelerated()
    assert array_library() is sys.modules["cupy"]
    assert to_numpy(SimpleNamespace(get=lambda: [1, 2])).tolist() == [1, 2]


@pytest.mark.parametrize("before", [None, "0"])
def test_processes_that_start_later_are_left_alone(install, monkeypatch, before):
    monkeypatch.delenv("CUML_ACCEL_ENABLED", raising=False)
    if before:
        monkeypatch.setenv("CUML_ACCEL_ENABLED", before)
    install(True)
    assert accelerate()
    assert os.environ.get("CUML_ACCEL_ENABLED") == before


def test_the_versions_of_what_computes_are_named(install):
    """They are in the digests of cached results."""
    install(False)
    assert backend_versions() == {}
    has_gpu.cache_clear()
    install(True)
    assert backend_versions() == {"cupy": "13.3.0"}
    accelerate()
    assert backend_versions() == {"cupy": "13.3.0", "cuml": "25.02"}


def test_only_the_explicit_call_lets_cuml_stand_in_and_the_log_says_so(tmp_path):
    accel = "import sys\n\ndef install(**_):\n    print('sklearn' in sys.modules)\n"
    device = "class cuda:\n    is_available = staticmethod(lambda: True)\n"
    for path, text in {"cuml/__init__.py": "", "cuml/accel.py": accel, "cupy.py": device}.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    code = (
        f"import sys, logging; sys.path.insert(0, {str(tmp_path)!r}); logging.basicConfig(level='INFO'); "
        "import probes; print('imported'); from probes.solvers.backend import accelerate; print(accelerate())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["imported", "False", "True"]
    assert "cuML stands in for scikit-learn" in done.stderr
