"""Builds and registers the simulated accelerator; once a process, and for good."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

NAME = "sim"


@cache
def install_device() -> Any:
    """The extension, with ``set_copy_time``, ``set_limit`` and ``used``; torch knows the device ``sim`` afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.cpp_extension import load

        source = str(Path(__file__).with_suffix(".cpp"))
        extension = load("skyprobe_sim", [source], extra_cflags=["-O1"])
    torch.utils.rename_privateuse1_backend(NAME)
    extension.install()
    torch._register_device_module(NAME, _module())
    torch.utils.generate_methods_for_privateuse1_backend()
    return extension


def introduce() -> Any:
    """Install the device, and let skyprobe know it as a GPU; the extension."""
    from featurestore.backbones.engines import base
    from featurestore.extraction import requests

    extension = install_device()
    if NAME not in base.GPUS:
        base.GPUS = (*base.GPUS, NAME)  # type: ignore[assignment]
        base.DEVICES = (*base.DEVICES, NAME)  # type: ignore[assignment]
        base._DRIVERS = ("/dev/null",)  # type: ignore[assignment]
        requests.BATCH_SIZE[NAME] = 8
    return extension


def _module() -> Any:
    """What torch looks for as ``torch.sim``."""
    return SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        current_device=lambda: 0,
        device_count=lambda: 1,
        get_amp_supported_dtype=lambda: [torch.bfloat16, torch.float16],
        is_bf16_supported=lambda including_emulation=True: including_emulation,
        manual_seed_all=lambda seed: None,
        get_device_name=lambda: "simulated",
        _is_in_bad_fork=lambda: False,
    )
