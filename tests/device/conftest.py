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
def introduced() -> Any:
    sys.path.insert(0, str(Path(__file__).parent))
    from simulated import introduce

    return introduce()


@pytest.fixture
def sim(introduced: Any) -> Iterator[Any]:
    """The device, whose copies take a while and whose memory has no limit."""
    introduced.set_copy_time(300)
    yield introduced
    introduced.set_limit(2**62)
