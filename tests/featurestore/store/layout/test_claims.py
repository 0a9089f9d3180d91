from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from featurestore.store.layout import claims as module
from featurestore.store.layout.claims import EXPIRY_SECONDS, Claims, dismiss
from featurestore.store.layout.storage import Storage

KEY = "features/galaxies/full-224/dino/0123"
ELSEWHERE = json.dumps({"host": "node7", "machine": "node7 boot", "pid": 1, "beat": 1}).encode()


@pytest.fixture(params=["folder", "objects"])
def storage(request, tmp_path: Path) -> Storage:
    return Storage(str(tmp_path) if request.param == "folder" else f"memory://{uuid4().hex}", read_only=False)


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def make(storage: Storage, clock: list[float]) -> Iterator[Callable[..., Claims]]:
    with ExitStack() as stack:
        yield lambda owner=None: stack.enter_context(Claims(storage, owner, lambda: clock[0]))


def write(storage: Storage, name: str, data: bytes) -> None:
    storage.replace_bytes(f"claims/{name}", data)


def names(storage: Storage) -> list[str]:
    return storage.children("claims")


def test_one_of_two_writers_has_a_block_until_it_gives_it_back(make) -> None:
    one, other = make(), make()
    assert one.acquire(KEY, 3)
    assert not other.acquire(KEY, 3)
    assert other.acquire(KEY, 4) and other.acquire(f"{KEY}4", 3), "another block, another key"
    one.release(KEY, 3)
    assert other.acquire(KEY, 3)


def test_of_many_threads_one_has_a_block(make) -> None:
    writers = [make() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for block in range(20):
            assert sum(pool.map(lambda writer, block=block: writer.acquire(KEY, block), writers)) == 1


def test_nothing_is_written_without_a_claim_nor_left_at_the_end(storage: Storage) -> None:
    with Claims(storage):
        assert names(storage) == []
    with Claims(storage) as claims:
        claims.acquire(KEY, 3)
        assert len(names(storage)) == 2
    assert names(storage) == []


def test_what_a_writer_still_has_at_an_error_is_free(storage: Storage, make) -> None:
    def fail() -> None:
        with Claims(storage) as claims:
            claims.acquire(KEY, 3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert make().acquire(KEY, 3)


def test_a_writer_without_a_sign_of_life_is_gone(storage: Storage, make) -> None:
    write(storage, _name(3), b"dead")
    assert make().acquire(KEY, 3)


def test_only_one_takes_over(storage: Storage, make) -> None:
    writers = [make() for _ in range(8)]
    for writer in writers:
        writer.acquire(KEY, 100)  # they are there before the other one is gone, and sweep nothing
    write(storage, _name(3), b"dead")
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda writer: writer.acquire(KEY, 3), writers)) == 1


def test_a_claim_taken_over_twice_is_given_back_as_a_whole(storage: Storage, make) -> None:
    first, second = make("a"), make("b")
    first.acquire(KEY, 0)
    second.acquire(KEY, 1)
    write(storage, _name(3), b"dead")
    assert first.acquire(KEY, 3)
    dismiss(storage, "a")
    assert second.acquire(KEY, 3)
    second.release(KEY, 3)
    assert not [name for name in names(storage) if name.startswith(_name(3))]


@pytest.mark.parametrize("storage", ["folder"], indirect=True)
def test_a_killed_process_of_this_machine_is_gone_at_once(storage: Storage, make) -> None:
    code = (
        "import os, signal, sys; from featurestore.store.layout.claims import Claims;"
        "from featurestore.store.layout.storage import Storage;"
        f"Claims(Storage(sys.argv[1], read_only=False)).acquire({KEY!r}, 3); os.kill(os.getpid(), signal.SIGKILL)"
    )
    child = subprocess.run([sys.executable, "-c", code, storage.path], cwd=Path(__file__).parents[4], check=False)
    assert child.returncode == -9 and len(names(storage)) == 2
    claims = make()
    assert claims.acquire(KEY, 3)
    assert len(names(storage)) == 2, "what it left is swept"


def test_a_process_elsewhere_is_gone_when_its_sign_of_life_stands_still(storage: Storage, make, clock) -> None:
    write(storage, _name(3), b"other")
    write(storage, "other.alive", ELSEWHERE)
    claims = make()
    assert not claims.acquire(KEY, 3)
    clock[0] = EXPIRY_SECONDS
    assert not claims.acquire(KEY, 3)
    assert claims.holder(KEY, 3) == "process 1 on node7"
    clock[0] = EXPIRY_SECONDS + 1
    assert claims.acquire(KEY, 3)


def test_a_process_elsewhere_that_beats_keeps_its_claim_whatever_its_clock_says(storage: Storage, make, clock) -> None:
    write(storage, _name(3), b"other")
    claims = make()
    for beat in range(5):
        write(storage, "other.alive", ELSEWHERE.replace(b'"beat": 1', b'"beat": %d' % beat))
        clock[0] += EXPIRY_SECONDS
        assert not claims.acquire(KEY, 3)


def test_a_replaced_process_goes_on_with_the_claims_of_its_id(storage: Storage, make) -> None:
    write(storage, "run-0.alive", ELSEWHERE)
    write(storage, _name(3), b"run-0")
    assert make("run-0").acquire(KEY, 3)


def test_a_sweep_leaves_what_was_taken_over_and_what_lives(storage: Storage, make) -> None:
    first = make("a")
    first.acquire(KEY, 1)
    write(storage, _name(3), b"dead")
    first.acquire(KEY, 3)
    write(storage, _name(5), b"dead")
    assert first.sweep() == [_name(5)]
    assert set(names(storage)) == {"a.alive", _name(1), _name(3), f"{_name(3)}~dead"}


def test_beats_differ(storage: Storage, make) -> None:
    claims = make("a")
    claims.acquire(KEY, 1)
    before = storage.read_bytes("claims/a.alive")
    claims.beat()
    assert storage.read_bytes("claims/a.alive") != before


def test_a_damaged_sign_of_life_is_one_that_stands_still(storage: Storage, make, clock) -> None:
    write(storage, _name(3), b"other")
    write(storage, "other.alive", b"[")
    claims = make()
    assert not claims.acquire(KEY, 3)
    clock[0] = EXPIRY_SECONDS + 1
    assert claims.acquire(KEY, 3)


def _name(block: int) -> str:
    return module._name(KEY, block)
