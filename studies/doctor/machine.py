"""What computes: processor, memory, GPU. torch is loaded only where it is to prove what it can."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from shutil import which

from featurestore.datasets.boundary import reason_of
from featurestore.workers import count_processors
from probes.sweep.memory import available_memory
from studies.doctor.finding import Finding, megabytes

_CPU_INFO = Path("/proc/cpuinfo")
_NVIDIA = Path("/dev/nvidiactl")
_FEATURES = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "sve", "bf16")
"""What engines use, as Linux writes it: wide arithmetic, 8-bit integers, bfloat16."""

_LEAST_MEMORY = 2 * 10**9
"""A model and the batches of a worker or two."""

_SMI = ("--query-gpu=name,memory.total,driver_version", "--format=csv,noheader")
_SECONDS = 10
_TRY_TORCH = "See what torch makes of it: skyprobe doctor --torch."


def examine_machine(*, load_torch: bool) -> Iterator[Finding]:
    """Processor, memory and GPU.

    Args:
        load_torch: Whether torch is loaded, which takes seconds, and computes something on every device it knows.
    """
    yield Finding("python", "ok", f"{platform.python_version()}, {platform.platform()}")
    yield _processor()
    yield _memory()
    yield _gpu()
    if load_torch:
        yield from _torch_devices()


def processor_features() -> list[str]:
    """Those of the features that engines use which this processor has; none where the system does not say."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return []
    words = next(
        (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return [feature for feature in _FEATURES if feature in words]


def _processor() -> Finding:
    usable, there = count_processors(), os.cpu_count() or 1
    count = f"{usable} processors" if usable == there else f"{usable} of {there} processors"
    return Finding("processor", "ok", ", ".join([platform.machine(), count, *processor_features()]))


def _memory() -> Finding:
    free = available_memory()
    if free >= _LEAST_MEMORY:
        return Finding("memory", "ok", f"{megabytes(free)} available")
    return Finding(
        "memory",
        "note",
        f"only {megabytes(free)} available",
        "Extract with fewer workers and smaller batches: --workers 1 --batch-size 8.",
    )


def _gpu() -> Finding:
    """An NVIDIA GPU as its driver sees it."""
    if not _NVIDIA.exists():
        return Finding("gpu", "note", "no NVIDIA GPU: backbones run on the processor")
    tool = which("nvidia-smi")
    if tool is None:
        return Finding("gpu", "ok", "an NVIDIA GPU, whose driver has no nvidia-smi", _TRY_TORCH)
    try:
        answer = subprocess.run([tool, *_SMI], capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("gpu", "broken", f"nvidia-smi fails: {error}", "Start the driver anew: sudo nvidia-smi.")
    return Finding("gpu", "ok", "; ".join(answer.stdout.strip().splitlines()))


def _torch_devices() -> Iterator[Finding]:
    """A small product on the processor and on whatever accelerator torch knows."""
    try:
        import torch
    except Exception as error:  # a library that it needs is absent or of another machine
        yield Finding(
            "torch", "broken", f"cannot be loaded: {reason_of(error)}", f"{sys.executable} -m pip install 'skyprobe'"
        )
        return
    known = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    for device in ("cpu", known.type) if known else ("cpu",):
        part, found = f"torch on {device}", f"torch {torch.__version__}"
        try:
            ones = torch.ones(64, 64, device=device)
            right = float((ones @ ones).sum()) == 64.0**3
            failure = "" if right else f"{found} computes wrong numbers"
        except Exception as error:  # whatever a driver raises
            failure = f"{found}: {reason_of(error)}"
        if failure:
            yield Finding(part, "broken", failure, "Use another --device until this one works.")
        else:
            yield Finding(part, "ok", found)
