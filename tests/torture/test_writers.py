"""Four writers, different listings, a repair loop: the bytes of one process, and hardly anything computed twice."""

from __future__ import annotations

from pathlib import Path

from featurestore.store import open_store
from featurestore.store.verify import verify
from tests.torture.conftest import contents
from tests.torture.crowd import LISTINGS

LEAST = 0.98
"""Share of the rows that are computed once."""


def test_a_crowd_of_writers(tortured, rounds, tell, tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    tortured.finish("alone", alone)
    tortured.finish("finish", alone)
    wanted, needed, embedded = chunks(alone), 2 * LISTINGS[0], []
    n_rounds = rounds(1, 50)
    for number in range(n_rounds):
        folder = tmp_path / f"crowd{number}"
        folder.mkdir()
        tortured.finish("crowd", folder)
        log = tortured.log(folder)
        embedded.append(sum(int(file.read_text()) for file in folder.glob("embedded.*")))
        tortured.finish("alone", folder)
        tortured.finish("finish", folder)
        assert verify(open_store(str(folder / "store.zarr"))) == []
        assert chunks(folder) == wanted
    share = needed * n_rounds / sum(embedded)
    assert share >= LEAST, (embedded, log)
    tell(f"{n_rounds} rounds: {needed * n_rounds} rows needed, {sum(embedded)} computed: {share:.3f}; bytes equal")


def chunks(folder: Path) -> dict[str, bytes]:
    """All chunks; metadata lists requests in the order in which they came."""
    return {name: raw for name, raw in contents(folder / "store.zarr").items() if not name.endswith("zarr.json")}
