"""A stand-in for CuPy that computes by NumPy, and refuses what CuPy refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from probes.solvers.backend import has_gpu

OPERATORS = [
    *("add", "sub", "mul", "truediv", "matmul", "pow", "and", "or", "eq", "ne", "lt", "le", "gt", "ge"),
    *(
        "radd",
        "rsub",
        "rmul",
        "rtruediv",
        "rpow",
        "rmatmul",
        "iadd",
        "isub",
        "imul",
        "itruediv",
        "neg",
        "abs",
        "invert",
    ),
]


def unwrap(value: Any) -> Any:
    """The NumPy value of one of the device; an array of the host beside it is a mistake, which CuPy reports too."""
    if isinstance(value, DeviceArray):
        return value.host
    if isinstance(value, np.ndarray) and value.ndim > 0:
        raise TypeError("implicit mixing of a NumPy array with a CuPy array")
    if isinstance(value, tuple | list):
        return type(value)(unwrap(one) for one in value)
    return value


def wrap(value: Any) -> Any:
    return DeviceArray(value) if isinstance(value, np.ndarray | np.generic) else value


class DeviceArray:
    """An array that NumPy gets by ``get`` alone."""

    __array_ufunc__ = None
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, host: Any) -> None:
        self.host = np.asarray(host)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def get(self) -> Any:
        return self.host

    def __len__(self) -> int:
        return len(self.host)

    def __bool__(self) -> bool:
        return bool(self.host)

    def __float__(self) -> float:
        return float(self.host)

    def __int__(self) -> int:
        return int(self.host)

    def __iter__(self) -> Iterator[Any]:
        return map(wrap, self.host)

    def __getitem__(self, place: Any) -> Any:
        return wrap(self.host[unwrap(place)])

    def __setitem__(self, place: Any, value: Any) -> None:
        self.host[unwrap(place)] = unwrap(value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # NumPy would find its way to the memory by __array_interface__
            raise AttributeError(name)
        return on_device(getattr(self.host, name))


def on_device(value: Any) -> Any:
    """A function of NumPy for arrays of the device; another value as one of the device."""
    if not callable(value) or isinstance(value, type):
        return wrap(value)
    return lambda *args, **options: wrap(value(*unwrap(args), **{name: unwrap(one) for name, one in options.items()}))


def _operator(name: str) -> Any:
    def apply(self: DeviceArray, *others: Any) -> Any:
        found = getattr(self.host, name)(*unwrap(others))
        return self if name.startswith("__i") and name != "__invert__" else wrap(found)

    return apply


for _name in OPERATORS:
    setattr(DeviceArray, f"__{_name}__", _operator(f"__{_name}__"))


class StrictCuPy(ModuleType):
    """The module."""

    __version__ = "13.3.0"
    ndarray = DeviceArray
    cuda = SimpleNamespace(is_available=lambda: True)

    def asarray(self, values: Any, *args: Any, **options: Any) -> DeviceArray:
        """The one way from the host to the device."""
        return DeviceArray(np.array(values.host if isinstance(values, DeviceArray) else values, *args, **options))

    def __getattr__(self, name: str) -> Any:
        found = getattr(np, name)
        return found if isinstance(found, type) or not callable(found) else on_device(found)


@pytest.fixture
def strict_cupy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU on which CuPy answers, and cuML is not installed."""
    monkeypatch.setitem(sys.modules, "cupy", StrictCuPy("cupy"))
    monkeypatch.setitem(sys.modules, "cuml", None)
    has_gpu.cache_clear()
    yield
    has_gpu.cache_clear()
