"""Coordinator: hands blocks to the processes of a pool, and finds the image that brings them down.

Only numbers of blocks travel; a process that dies takes nothing with it but its block, which another one does again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from featurestore.errors import BackboneError, SkyprobeError
from featurestore.extraction.executors.host import Piece
from featurestore.extraction.processing import Processed

BLOCKS_AT_ONCE = 64
"""Most blocks that a process is handed at a time."""

_SHARES = 4
"""So many pieces there are for each process at least, so that they end together."""

_MOST_MARKED = 16
"""After so many images that brought down their process, something else does."""

_REASON = "the process that embeds it dies or fails"

_LOOK_SECONDS = 5.0
"""Progress is looked up so often."""

_T = TypeVar("_T")


class Pool(Protocol):
    """Processes, each with a `featurestore.extraction.executors.host.Host`.

    Attributes:
        size: How many.
        tries: How often a block may fail before it is taken apart.
    """

    size: int
    tries: int

    def start(self, number: int) -> Future[list[int] | SkyprobeError]:
        """Ask a process for the blocks with something to do."""
        ...

    def ask(self, number: int, piece: Piece) -> Future[Processed | SkyprobeError]:
        """Have a process do a piece."""
        ...

    def replace(self, number: int) -> None:
        """Put a new process into the place of one that died."""
        ...

    def close(self) -> None:
        """End all processes."""
        ...


class Coordinator:
    """One run of a pool.

    Args:
        pool: The processes.
        block_rows: Rows of a block.
        look: Called now and then, to look up progress.
    """

    def __init__(self, pool: Pool, block_rows: int, look: Callable[[], None]) -> None:
        self._pool, self._block_rows, self._look = pool, block_rows, look
        self._queue: deque[Piece] = deque()
        self._failures: Counter[Piece] = Counter()
        self._done = Processed()
        self._marked = 0

    def run(self, choose: Callable[[Sequence[int]], Sequence[int]]) -> Processed:
        """Do all blocks that `choose` picks out of those with something to do.

        Raises:
            SkyprobeError: What a process raised; or processes die whatever they do.
        """
        starting = {number: self._pool.start(number) for number in range(self._pool.size)}
        blocks = choose(self._started(starting[0]))
        size = max(1, min(BLOCKS_AT_ONCE, len(blocks) // (_SHARES * self._pool.size)))
        self._queue.extend(Piece(tuple(blocks[at : at + size])) for at in range(0, len(blocks), size))
        asked: dict[Future[Processed | SkyprobeError], tuple[int, Piece]] = {}
        idle: list[int] = []
        while self._queue or asked:
            idle += self._now_idle(starting)
            while self._queue and idle:
                number, piece = idle.pop(0), self._queue.popleft()
                asked[self._pool.ask(number, piece)] = number, piece
            pending: list[Future[Any]] = [*asked, *starting.values()]
            wait(pending, _LOOK_SECONDS, FIRST_COMPLETED)
            self._look()
            for future in [one for one in asked if one.done()]:
                number, piece = asked.pop(future)
                if self._collect(future, piece):
                    idle.append(number)
                else:
                    self._pool.replace(number)
                    starting[number] = self._pool.start(number)
        return self._done

    def _now_idle(self, starting: dict[int, Future[list[int] | SkyprobeError]]) -> Iterator[int]:
        for number in [number for number, future in starting.items() if future.done()]:
            self._started(starting.pop(number))
            yield number

    def _started(self, future: Future[list[int] | SkyprobeError]) -> list[int]:
        try:
            return _unwrap(future.result())
        except SkyprobeError:
            raise
        except Exception as error:
            raise BackboneError(
                f"a process died as it loaded its models: {error}".splitlines()[0],
                where="extract",
                hint="Free memory, or use fewer processes: --devices N.",
            ) from error

    def _collect(self, future: Future[Processed | SkyprobeError], piece: Piece) -> bool:
        """Whether the process is still good; a piece that brought it down comes again, in parts."""
        try:
            self._done.add(_unwrap(future.result()))
        except SkyprobeError:
            raise
        except Exception:  # whatever kills a process
            self._failures[piece] += 1
            self._queue.extendleft(self._divide(piece))
            return False
        return True

    def _divide(self, piece: Piece) -> Iterator[Piece]:
        if piece.reason:
            raise BackboneError("a process died as it wrote", where="extract", hint="Run the same command again.")
        if len(piece.blocks) > 1:
            yield from (Piece((block,)) for block in piece.blocks)
        elif piece.rows is None and self._failures[piece] < self._pool.tries:
            yield piece
        elif len(rows := piece.rows or range(self._block_rows)) > 1:
            middle = len(rows) // 2
            yield from (Piece(piece.blocks, part) for part in (rows[:middle], rows[middle:]))
        else:
            yield self._mark(Piece(piece.blocks, rows, _REASON))

    def _mark(self, piece: Piece) -> Piece:
        self._marked += 1
        if self._marked > _MOST_MARKED:
            raise BackboneError(
                f"more than {_MOST_MARKED} images brought down the process that embedded them",
                where=f"block {piece.blocks[0]}",
                hint="It is hardly the images. Free memory, or use fewer processes: --devices N; then run again with "
                "--retry-unreadable.",
            )
        return piece


def close_quietly(pool: Pool) -> None:
    """End all processes, whatever became of them."""
    with suppress(Exception):
        pool.close()


def _unwrap(result: _T | SkyprobeError) -> _T:
    if isinstance(result, SkyprobeError):
        raise result
    return result
