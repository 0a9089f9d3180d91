"""Steps in several processes: what is killed is resumed, what runs twice at once agrees; the bytes are the same."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu_check.outcome import Figure
from benchmarks.gpu_check.setting import Setting
from featurestore.store import open_store


def check_recovery(setting: Setting) -> Iterator[Figure]:
    """A run that is killed and resumed, and two at once, against one that is left alone."""
    alone = _finish(_start(setting, "alone"), setting, "alone")
    killed = _start(setting, "killed")
    assert killed.stdout is not None
    killed.stdout.readline()  # the first rows are in the store
    killed.kill()
    killed.wait()
    resumed = _finish(_start(setting, "killed"), setting, "killed")
    yield Figure("killed and resumed, equal bytes", resumed == alone, limit=True)
    first, second = _start(setting, "both"), _start(setting, "both")
    _finish(first, setting, "both")
    yield Figure("two at once, equal bytes", _finish(second, setting, "both") == alone, limit=True)


def _start(setting: Setting, name: str) -> subprocess.Popen[str]:
    scale, path = setting.scale, _path(setting, name)
    place = [setting.pictures("png"), path, setting.device, setting.runtime.precision]
    words = [*place, scale.timed[0], scale.side, scale.batch]
    command = [sys.executable, "-m", "benchmarks.gpu_check.worker", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _finish(process: subprocess.Popen[str], setting: Setting, name: str) -> bytes:
    """The features that a run stored, as bytes."""
    _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the extraction failed: {errors.strip().splitlines()[-1]}")
    (entry,) = open_store(str(_path(setting, name))).find()
    return b"".join(entry.read(pooling).values.tobytes() for pooling in sorted(entry.shapes))


def _path(setting: Setting, name: str) -> Path:
    return setting.folder / f"recovery-{name}"
