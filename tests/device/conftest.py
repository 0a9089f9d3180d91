"""Tests on the simulated accelerator, by ``make test-device`` alone: the whole process has it from then on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

collect_ignore_glob = [] if os.environ.get("SKYPROBE_TEST_DEVICE") else ["test_*.py"]


@pytest.fixture(scope="session")
def installed() -> Any:
    sys.path.insert(0, str(Path(__file__).parent))
    from simulated import install_device

    return install_device()


@pytest.fixture
def sim(installed: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The device, known to skyprobe as a GPU, whose copies take a while and whose memory has no limit."""
    from featurestore.backbones.engines import base
    from featurestore.extraction import requests

    monkeypatch.setattr(base, "GPUS", (*base.GPUS, "sim"))
    monkeypatch.setattr(base, "DEVICES", (*base.DEVICES, "sim"))
    monkeypatch.setattr(base, "_DRIVERS", ("/dev/null",))
    monkeypatch.setitem(requests.BATCH_SIZE, "sim", 8)
    installed.set_copy_time(300)
    yield installed
    installed.set_limit(2**62)
