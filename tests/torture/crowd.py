"""Four writers of one store with overlapping requests and different listings, and a repair loop beside them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VARIANTS = (["resize=64"], ["resize=64", "resize=96"], ["resize=96"], ["resize=96", "resize=64"])
"""What each writer asks for."""

LISTINGS = (30, 28, 30, 25)
"""How many of the images each writer sees: some have arrived since others listed the folder."""

_BACKBONE = "timm:test_efficientnet"
_TRIES = 50


def crowd(folder: Path, images: str, block_rows: int) -> int:
    """Let all of them work; 0 where each came to its end.

    Each writer leaves the number of rows that it embedded in ``embedded.N``.
    """
    ended = folder / "ended"
    _wait_for(_fork(lambda: _put(folder, images, block_rows)))
    repairer = _fork(lambda: _repair_until(folder, ended))
    writers = [_fork(lambda n=n: _write(folder, images, block_rows, n)) for n in range(len(VARIANTS))]
    codes = [_wait_for(writer) for writer in writers]
    ended.touch()
    return max(map(abs, [*codes, _wait_for(repairer)]))


def _wait_for(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _put(folder: Path, images: str, block_rows: int) -> int:
    """The dataset is known: of two that put it first, the later one decides which rows there are."""
    from featurestore.datasets import open_dataset
    from featurestore.store import open_store

    open_store(str(folder / "store.zarr"), mode="a", block_rows=block_rows).put_dataset(open_dataset(images).table)
    return 0


def alone(folder: Path, images: str, block_rows: int) -> int:
    """The same by one process, which also completes what a crowd left."""
    return _extract(folder, images, block_rows, VARIANTS[1], LISTINGS[0])


def _fork(work: Callable[[], int]) -> int:
    process = os.fork()
    if process == 0:
        code = 70
        try:
            code = work()
        finally:
            if sys.exc_info()[0] is not None:
                sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(code)
    return process


def _write(folder: Path, images: str, block_rows: int, number: int) -> int:
    """One writer; what another has put into its way it does again, as the message asks."""
    from featurestore.errors import StoreError

    embedded = _count_embedded()
    for _ in range(_TRIES):
        try:
            _extract(folder, images, block_rows, VARIANTS[number], LISTINGS[number])
            break
        except StoreError as error:
            if "again" not in error.hint:
                raise
            print(f"writer {number} starts again: {error}", file=sys.stderr)
    else:
        return 1
    print(f"writer {number} embedded {embedded}", file=sys.stderr)
    (folder / f"embedded.{number}").write_text(str(sum(embedded)))
    return 0


def _extract(folder: Path, images: str, block_rows: int, variants: list[str], listed: int) -> int:
    from featurestore.datasets import open_dataset
    from featurestore.extraction.extract import extract_features
    from featurestore.extraction.requests import ExtractionOptions
    from featurestore.store import open_store

    store = open_store(str(folder / "store.zarr"), mode="a", block_rows=block_rows)
    dataset = _Listing(open_dataset(images), listed)
    options = ExtractionOptions(weights="random:0", engine="torch", batch_size=4, workers=1)
    extract_features(dataset, [_BACKBONE], variants, store, options)
    store.close()
    return 0


class _Listing:
    """The first images of a dataset, as a folder was listed before the others arrived."""

    def __init__(self, whole: Any, listed: int) -> None:
        self.decoder, self.read = whole.decoder, whole.read
        self.table = whole.table.take(np.arange(listed))

    def __len__(self) -> int:
        return len(self.table)


def _count_embedded() -> list[int]:
    """Rows of each batch that is embedded from here on."""
    from featurestore.extraction.blocks import BlockPlan

    embed, counts = BlockPlan.embed, []

    def counting(plan: Any, *arguments: Any) -> Any:
        result = embed(plan, *arguments)
        counts.append(sum(int((one.state != 0).sum()) for one in result[0].values()))
        return result

    BlockPlan.embed = counting  # type: ignore[method-assign]
    return counts


def _repair_until(folder: Path, ended: Path) -> int:
    from featurestore.errors import StoreError
    from featurestore.store import open_store
    from featurestore.store.verify import verify

    while not ended.exists():
        try:
            verify(open_store(str(folder / "store.zarr"), mode="r"))
            verify(open_store(str(folder / "store.zarr"), mode="a"), repair=True)
        except StoreError as error:
            if "no store" not in error.what:
                raise
    return 0
