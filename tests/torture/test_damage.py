"""Whatever happens to a file of a store: harmless, or found on reading, with the array and its rows."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from featurestore.errors import SkyprobeError
from featurestore.store import FeatureStore, open_store
from tests.torture.conftest import contents, copy_of

_REPAIRED = 5
"""One of so many damages is repaired; all are read."""


def flip(path: Path, rng: Random, others: list[Path]) -> None:
    raw = bytearray(path.read_bytes())
    if raw:
        raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    path.write_bytes(raw)


def truncate(path: Path, rng: Random, others: list[Path]) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: rng.randrange(len(raw))] if raw else raw)


def swap(path: Path, rng: Random, others: list[Path]) -> None:
    """With a file of that name elsewhere, the more alike the more likely."""
    alike = [other for other in others if other != path and other.name == path.name]
    same = [other for other in alike if other.stat().st_size == path.stat().st_size]
    other = rng.choice(same or alike or [path])
    mine, its = path.read_bytes(), other.read_bytes()
    path.write_bytes(its)
    other.write_bytes(mine)


def zero(path: Path, rng: Random, others: list[Path]) -> None:
    """All of it, or a page of it."""
    raw = bytearray(path.read_bytes())
    start = rng.choice([0, rng.randrange(len(raw) + 1)])
    end = len(raw) if rng.random() < 0.5 else min(len(raw), start + 16)
    raw[start:end] = bytes(end - start)
    path.write_bytes(raw)


DAMAGES: tuple[Callable[[Path, Random, list[Path]], None], ...] = (flip, truncate, swap, zero)


@pytest.fixture(scope="session")
def full(extracted: Path, tortured, tmp_path_factory) -> Path:
    """A store with every kind of file: samples, features, runs, heads, trained models."""
    folder = copy_of(extracted, tmp_path_factory.mktemp("torture") / "full")
    tortured.finish("probe", folder)
    tortured.finish("train", folder)
    tortured.finish("finish", folder)
    return folder


def test_damage(full: Path, tortured, rounds, rng, tell, tmp_path: Path) -> None:
    wanted, right = contents(full / "store.zarr"), read_all(open_store(str(full / "store.zarr")))
    found: Counter[str] = Counter()
    for number in range(rounds(20, 1000)):
        folder = copy_of(full, tmp_path / "damaged")
        store = folder / "store.zarr"
        path, damage = choose_file(store, rng), rng.choice(DAMAGES)
        damage(path, rng, [other for other in sorted(store.rglob("*")) if other.is_file()])
        done = f"{damage.__name__} {path.relative_to(store)}"
        found[judge(store, right, wanted, done)] += 1
        if number % _REPAIRED == 0:
            for job in ("repair", "probe", "train", "finish"):
                answer = tortured.run(job, folder)
                assert answer["code"] == 0, (done, tortured.log(folder))
            check_repaired(store, right, wanted, done)
            found["repaired"] += 1
    tell(f"{dict(found)}")


def check_repaired(store: Path, right: dict[str, Any], wanted: dict[str, bytes], done: str) -> None:
    """All numbers are there again, and every chunk that there was."""
    assert read_all(open_store(str(store))) == right, done
    after = contents(store)
    chunks = [name for name in wanted if not name.endswith("zarr.json")]
    assert [name for name in chunks if after.get(name) != wanted[name]] == [], done


def choose_file(store: Path, rng: Random) -> Path:
    """First a kind of file, then one of that kind: there are many more chunks than attributes."""
    kinds: dict[str, list[Path]] = {}
    for path in sorted(store.rglob("*")):
        if path.is_file() and path.relative_to(store).parts[0] not in {"writers", "claims"}:
            parts = path.relative_to(store).parts
            kinds.setdefault(f"{parts[0]} {parts[-1] == 'zarr.json'} {len(parts)}", []).append(path)
    return rng.choice(kinds[rng.choice(sorted(kinds))])


def judge(store: Path, right: dict[str, Any], wanted: dict[str, bytes], done: str) -> str:
    """What a reader sees of a damaged store; a wrong number is the one thing that it must not see."""
    if contents(store) == wanted:
        return "nothing changed"
    try:
        found = read_all(open_store(str(store)))
    except SkyprobeError as error:
        check_message(error, store)
        return "found"
    for name, value in found.items():
        assert isinstance(value, str) or right.get(name) == value, f"{name} is silently wrong: {done}"
    if any(isinstance(value, str) for value in found.values()):
        return "found"
    return "missing" if found != right else "harmless"


def check_message(error: SkyprobeError, store: Path) -> None:
    assert str(store) in error.where or error.where in {"store", "images"}, error
    assert error.hint


def read_all(store: FeatureStore) -> dict[str, Any]:
    """Everything that decides a number, by name; the message of the error for what is refused."""
    found: dict[str, Any] = {}
    for name in store.datasets():
        found[name] = attempt(store, lambda name=name: digest_table(store.dataset(name)))
    for path in store.key_paths():
        found |= attempt_entry(store, path)
    for kind in store.storage.children("derived"):
        for digest in store.list_cached(kind):
            entry = store.get_cached(kind, digest)
            if entry is not None:
                found[f"{kind} {digest}"] = digest_arrays(entry.arrays)
    return found


def attempt_entry(store: FeatureStore, path: str) -> dict[str, Any]:
    try:
        entry = store.open_entry(path)
        poolings = list(entry.shapes) if entry else []
    except SkyprobeError as error:
        check_message(error, Path(store.path))
        return {path: str(error)}
    return {f"{path} {name}": attempt(store, lambda name=name: digest_features(entry.read(name))) for name in poolings}


def attempt(store: FeatureStore, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except SkyprobeError as error:
        check_message(error, Path(store.path))
        if "/features/" in error.where and "/c/" in error.where:
            assert "block" in error.what and "rows" in error.what, error
        return str(error)


def digest_table(table: Any) -> tuple[Any, ...]:
    labels = {scheme: values.tolist() for scheme, values in table.labels.items()}
    return table.sample_ids, json.dumps(labels), json.dumps(table.classes), tuple(table.splits.tolist())


def digest_features(features: Any) -> tuple[Any, ...]:
    return features.table.sample_ids, hashlib.sha256(features.values.tobytes()).digest()


def digest_arrays(arrays: Any) -> tuple[Any, ...]:
    return tuple((name, hashlib.sha256(values.tobytes()).digest()) for name, values in sorted(arrays.items()))
