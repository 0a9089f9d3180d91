"""Precisions that this processor computes in natively."""

from __future__ import annotations


def native_precisions() -> tuple[str, ...]:
    """``fp32``, and ``bf16`` where the processor has it."""
    import openvino

    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ("fp32", "bf16") if has_bf16 else ("fp32",)
