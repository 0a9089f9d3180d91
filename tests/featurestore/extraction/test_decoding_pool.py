"""Batches that other processes decode are those that the worker itself would decode."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from operator import truediv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from featurestore.datasets import open_dataset
from featurestore.errors import ExtractionError
from featurestore.extraction import decoding_pool
from featurestore.extraction.decoding_pool import Decoding, DecodingPool, open_decoding
from featurestore.extraction.embedding import EMPTY, Batch, Costs, fill_here
from featurestore.preprocessing import Preprocessing, Unresized

N = 70
VARIANTS = ("resize=8", "resize=12,stretch=asinh:0.1", "resize=8,resizer=cuda,crop=center:0.5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of two shapes; one of 16 bits among them, one that is none, and one without contrast."""
    place, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number in range(N):
        shape = (20, 24, 3) if number % 3 else (16, 16)
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(place / f"{number:03d}.png")
    Image.fromarray(rng.integers(0, 2**16, (16, 16)).astype(np.uint16)).save(place / "010.png")
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(place / "020.png")
    (place / "040.png").write_bytes(b"no picture")
    return place


@pytest.fixture(scope="module")
def opened(folder: Path) -> Any:
    """A dataset, and a pool of two processes that decode it."""
    dataset = open_dataset(str(folder))
    decoding = open_decoding(dataset, "cuda", 2, 64)
    yield dataset, decoding
    decoding.fill.__self__.close()


def make_batches(slots: np.ndarray, variants: tuple[str, ...] = VARIANTS) -> list[Batch]:
    batches = [Batch(Preprocessing.parse(text), slots.copy()) for text in variants]
    batches[-1].slots[3:9] = EMPTY  # a variant that wants fewer of them
    return batches


def assert_equal(found: Batch, expected: Batch) -> None:
    assert found.reasons == expected.reasons
    np.testing.assert_array_equal(found.ready, expected.ready)
    np.testing.assert_array_equal(found.content, expected.content)
    mine, theirs = found.pixels, expected.pixels
    if isinstance(mine, Unresized) and isinstance(theirs, Unresized):
        for one, other in zip(mine.images, theirs.images, strict=True):
            assert (one is None) == (other is None)
            assert one is None or (one.dtype == other.dtype and np.array_equal(one, other))
    else:
        assert mine.dtype == theirs.dtype
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "rows",
    [
        range(64),  # with the 16-bit picture, which makes floats of the whole batch
        [*range(50, 70), *[EMPTY] * 44],
        [EMPTY] * 40 + [10, 20, 40, 41] + [EMPTY] * 20,
    ],
    ids=["full", "tail", "bad"],
)
def test_batches_are_those_of_the_worker_itself(opened: Any, rows: Any) -> None:
    dataset, decoding = opened
    slots = np.array(list(rows), dtype=np.int64)
    found, expected = make_batches(slots), make_batches(slots)
    costs, alone = Costs(), Costs()
    decoding.fill(dataset, found, costs)
    fill_here(dataset, expected, alone)
    for mine, theirs in zip(found, expected, strict=True):
        assert_equal(mine, theirs)
    assert costs.images == alone.images == (slots != EMPTY).sum()
    assert costs.decode > 0


def test_batches_of_several_sizes_share_memory(opened: Any) -> None:
    dataset, decoding = opened
    for n in (64, 4, 16):
        found, expected = (Batch(Preprocessing(resize=8), np.arange(50, 50 + n) % N) for _ in range(2))
        decoding.fill(dataset, [found], Costs())
        fill_here(dataset, [expected], Costs())
        assert_equal(found, expected)


def test_nothing_of_the_batch_before_is_left_in_the_memory(opened: Any) -> None:
    dataset, decoding = opened
    full = Batch(Preprocessing(resize=8), np.arange(50, 66))
    decoding.fill(dataset, [full], Costs())
    part = Batch(Preprocessing(resize=8), np.array([50, *[EMPTY] * 15]))
    decoding.fill(dataset, [part], Costs())
    assert not np.asarray(part.pixels[1:]).any()


def test_an_image_too_large_for_its_room_comes_by_the_pipe(
    folder: Path, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, decoding = opened
    monkeypatch.setattr(decoding_pool, "IMAGE_BYTES", 300)  # less than the (10, 12, 3) that are cut out
    slots = np.arange(50, 60)
    found, expected = make_batches(slots, VARIANTS[-1:]), make_batches(slots, VARIANTS[-1:])
    decoding.fill(dataset, found, Costs())
    fill_here(dataset, expected, Costs())
    assert_equal(found[0], expected[0])


def test_a_dataset_that_cannot_be_sent_is_decoded_by_threads(make_dataset: Any, caplog: Any) -> None:
    decoding = open_decoding(make_dataset(), "cuda", 3, 64)
    assert decoding == Decoding(fill_here, 3)
    assert "cannot be sent to decoding processes, threads decode" in caplog.text


class Elsewhere:
    """A dataset that no other process can open."""

    decoder = "array"

    def __init__(self, dataset: Any) -> None:
        self.table, self.read = dataset.table, dataset.read

    def __reduce__(self) -> Any:
        return truediv, (1, 0)


def test_a_dataset_that_opens_here_alone_is_decoded_here(make_dataset: Any, caplog: Any) -> None:
    dataset = Elsewhere(make_dataset())
    decoding: Any = open_decoding(dataset, "cuda", 1, 64)
    found, expected = (Batch(Preprocessing(resize=8), np.arange(8)) for _ in range(2))
    for _ in range(2):
        decoding.fill(dataset, [found], Costs())
    fill_here(dataset, [expected], Costs())
    assert_equal(found, expected)
    assert caplog.text.count("cannot be opened by decoding processes, threads decode: ZeroDivisionError") == 1
    decoding.fill.__self__.close()


def test_a_cpu_decodes_by_its_workers(folder: Path) -> None:
    assert open_decoding(open_dataset(str(folder)), "cpu", 3, 8) == Decoding(fill_here, 3)


@pytest.mark.parametrize(("processes", "batch_size", "threads"), [(16, 256, 6), (16, 64, 18), (2, 256, 3)])
def test_there_are_so_many_batches_that_no_process_waits(
    folder: Path, processes: int, batch_size: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two in flight on the GPU, and beside them two portions for each process."""
    monkeypatch.setattr(decoding_pool, "ProcessPoolExecutor", lambda *_: SimpleNamespace(submit=None))
    decoding = open_decoding(open_dataset(str(folder)), "cuda", processes, batch_size)
    assert decoding.workers == threads
    decoding.fill.__self__.close.detach()


def test_a_process_that_ends(folder: Path) -> None:
    dataset = open_dataset(str(folder))
    pool = DecodingPool(decoding_pool._pickled(dataset) or b"", dataset.decoder, 1)
    batch = Batch(Preprocessing(resize=8), np.arange(4))
    pool.fill(dataset, [batch], Costs())
    (process,) = pool._pool._processes.values()
    process.kill()
    with pytest.raises(ExtractionError, match=r"a process that decodes images has ended.*Run the same command again"):
        pool.fill(dataset, [batch], Costs())
    pool.close()
    assert not Path(pool._folder).exists()


def test_no_room_for_pixels(folder: Path, monkeypatch: pytest.MonkeyPatch, opened: Any) -> None:
    dataset, decoding = opened

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ExtractionError, match=r"no room for .* MB of decoded images: No space left.*TMPDIR"):
        decoding.fill(dataset, [Batch(Preprocessing(resize=64), np.arange(512))], Costs())


KILLED = """
import sys
import numpy as np
from featurestore.datasets import open_dataset
from featurestore.extraction.decoding_pool import open_decoding
from featurestore.extraction.embedding import Batch, Costs
from featurestore.preprocessing import Preprocessing
if __name__ == "__main__":
    dataset = open_dataset(sys.argv[1])
    decoding = open_decoding(dataset, "cuda", 1, 8)
    decoding.fill(dataset, [Batch(Preprocessing(resize=8), np.arange(4))], Costs())
    pool = decoding.fill.__self__
    print(pool._folder, *pool._pool._processes, flush=True)
    sys.stdin.read()
"""


def test_processes_end_with_the_one_that_was_killed(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        place, child = parent.stdout.readline().split()
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and _state(child) != "Z":
        assert time.monotonic() < deadline
        os.sched_yield()
    assert not Path(place).exists()


def _state(process: str) -> str:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"
