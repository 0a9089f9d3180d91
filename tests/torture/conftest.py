"""How long the torture lasts, and the process that is tortured.

The same tests run in `make test`, seconds of them, and in `make torture`, which sets TORTURE to the share of the full
size: 1 is 200 kills, 1,000 damages, 10,000 hostile inputs. TORTURE_SEED draws others.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SHARE = float(os.environ.get("TORTURE", "0"))
SEED = int(os.environ.get("TORTURE_SEED", "0"))


@pytest.fixture
def rounds() -> Callable[[int, int], int]:
    """How often: few times, or a share of many."""
    return lambda few, many: ceil(SHARE * many) if SHARE else few


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> Random:
    """Draws what happens; each test its own."""
    return Random(f"{request.node.name} {SEED}")


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Says in a long run what was done."""

    def say(text: str) -> None:
        if SHARE:
            with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
                print(f"\n{request.node.name}: {text}", flush=True)

    return say


class Tortured:
    """A process that runs jobs in forks of itself; see `tests/torture/child.py`."""

    def __init__(self, images: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TORTURE_IMAGES": str(images)},
        )

    def run(self, job: str, folder: Path, **how: Any) -> dict[str, Any]:
        """Run a job, or kill it; see `child.run_forked`."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"job": job, "folder": str(folder), **how}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def finish(self, job: str, folder: Path) -> dict[str, Any]:
        """Run a job to its end."""
        answer = self.run(job, folder)
        assert answer["code"] == 0, self.log(folder)
        return answer

    def log(self, folder: Path) -> str:
        """What the last job in a folder printed."""
        return Path(f"{folder}.log").read_text(errors="replace")

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three classes of ten images."""
    folder = tmp_path_factory.mktemp("torture") / "images"
    rng = np.random.default_rng(0)
    for number, name in enumerate(("bar", "disc", "ring")):
        (folder / name).mkdir(parents=True)
        for index in range(10):
            pixels = rng.integers(0, 30, (24, 24), dtype=np.uint8)
            pixels[:, number * 8 : number * 8 + 7] += np.uint8(150)
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="session")
def tortured(images: Path) -> Iterator[Tortured]:
    process = Tortured(images)
    yield process
    process.close()


@pytest.fixture(scope="session")
def extracted(tortured: Tortured, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store that holds the features of all images."""
    folder = tmp_path_factory.mktemp("torture") / "extracted"
    folder.mkdir()
    tortured.finish("extract", folder)
    return folder


def copy_of(source: Path, target: Path) -> Path:
    """A folder that may be spoilt."""
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target))


@pytest.fixture
def prepared(extracted, tmp_path: Path, rng) -> dict[str, Path]:
    """Job -> the folder that it starts in."""
    damaged = copy_of(extracted, tmp_path / "damaged")
    chunks = sorted(damaged.glob("store.zarr/features/*/*/*/*/*/*/c/*/*"))
    for chunk in rng.sample(chunks, 3):
        chunk.write_bytes(bytes(chunk.stat().st_size))
    empty = tmp_path / "empty"
    empty.mkdir()
    others = dict.fromkeys(("probe", "train", "project"), extracted)
    return {"extract": empty, "slices": empty, "repair": damaged, **others}


def contents(store: Path) -> dict[str, bytes]:
    """All files of a store, but for how long something took."""
    files = (file for file in sorted(store.rglob("*")) if file.is_file())
    return {
        name: _without_times(name, file.read_bytes()) for file in files if (name := file.relative_to(store).as_posix())
    }


def _without_times(name: str, raw: bytes) -> bytes:
    """Cached results state their seconds, which their digest covers."""
    if not (name.startswith("derived/") and name.endswith("/zarr.json")):
        return raw
    try:
        record = json.loads(raw)
        del record["attributes"]["attributes"]["seconds"], record["attributes"]["sha256"]
    except (ValueError, KeyError, TypeError):
        return raw
    return json.dumps(record).encode()
