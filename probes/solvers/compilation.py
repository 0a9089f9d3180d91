"""Machine code from Python functions. Only kernels import this module, because it imports numba."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., object])

OPTIONS: dict[str, Any] = {
    "nogil": True,  # heads learn side by side on threads
    "error_model": "numpy",  # a check for division by zero would keep loops from the vector registers
}

FUSED = frozenset({"contract"})
"""A product and a sum may be one instruction."""

REORDERED = FUSED | {"reassoc", "nsz", "arcp"}
"""So may sums be taken in any order, as a sum over a row in vector registers needs; infinities and NaN keep their
meaning."""


def compiled(function: Function, *, fastmath: Set[str] = REORDERED) -> Function:
    """Compile at the first call; the code is kept beside the module, else in the user's cache, else in memory alone."""
    options = OPTIONS | {"fastmath": set(fastmath)}
    try:
        kernel: Function = njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that it may write to
        kernel = njit(**options)(function)
    return kernel


@intrinsic  # type: ignore[untyped-decorator]  # numba ships no types
def prefetch(typing_context: Any, array: Any, row: Any, column: Any) -> Any:  # noqa: ARG001
    """In a kernel, ask for the cache line of an element of a matrix without waiting for it."""

    def generate(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        matrix = context.make_array(array)(context, builder, arguments[0])
        address = cgutils.get_item_pointer(context, builder, array, matrix, arguments[1:])
        address = builder.bitcast(address, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        declared = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [address.type], declared)
        builder.call(function, [address, number(0), number(2), number(1)])  # to be read, into the second level, data
        return context.get_dummy_value()

    return types.void(array, row, column), generate
