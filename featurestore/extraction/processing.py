"""process_blocks: workers embed batch after batch, one writer commits; whoever runs an extraction calls this.

It may be called for any blocks, any number of times, by any number of processes: what the store says is done is not
done again, and a block that another process has claimed is left to it. A block is committed when it is whole, and what
is done of it when that takes long.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from featurestore.extraction.blocks import BlockPlan, Mask, Result
from featurestore.extraction.embedding import Costs, Embedded
from featurestore.store.entry import MISSING
from featurestore.store.layout.claims import Claims

Progress = Callable[[int, int], None]
"""Called with (images whose features are committed, images in all)."""

Refused = dict[int, list[int]]
"""Block -> jobs whose rows in it another process is computing."""

_AHEAD = 2
"""Batches for each worker in the blocks behind the one that is collected: none waits, and memory stays bounded."""

COMMIT_SECONDS = 30.0
"""What is embedded of a block is committed after so long, whole or not: more than that is never lost by a kill."""

_LOOK_SECONDS = 1.0
"""While other processes have what is left, it is looked at so often whether they are done."""


@dataclass
class Processed:
    """What was done.

    Attributes:
        costs: Seconds summed over workers, and counts.
        embedded: Digest of a request -> rows embedded for it.
    """

    costs: Costs = field(default_factory=Costs)
    embedded: Counter[str] = field(default_factory=Counter)

    def add(self, other: Processed) -> None:
        """Add what another process did."""
        self.costs.add(other.costs)
        self.embedded.update(other.embedded)


@dataclass(frozen=True)
class Hooks:
    """How processing speaks to its caller, and what time it is.

    Attributes:
        progress: Called as images are committed.
        notice: Called with a remark for the user.
        clock: Seconds, from any start.
        wait: Sleeps so many seconds.
    """

    progress: Progress = lambda _done, _total: None
    notice: Callable[[str], None] = lambda _text: None
    clock: Callable[[], float] = perf_counter
    wait: Callable[[float], None] = time.sleep


def process_blocks(
    plan: BlockPlan, blocks: Sequence[int], claims: Claims, hooks: Hooks | None = None, rows: range | None = None
) -> Processed:
    """Embed and commit what is still missing of some blocks; everything stops at the first error.

    What was committed before stays. A block that another process has claimed is waited for, and computed here if that
    process dies.

    Args:
        plan: What to do.
        blocks: Numbers of the blocks.
        claims: Keeps other processes from the same blocks.
        hooks: See there.
        rows: Only these rows of the blocks; all for None.
    """
    hooks = hooks or Hooks()
    with ThreadPoolExecutor(plan.decoding.workers, "worker") as workers, ThreadPoolExecutor(1, "writer") as writer:
        try:
            run = _Run(plan, claims, workers, _Commits(plan, claims, writer, _Tally(plan, blocks, hooks)), hooks, rows)
            refused = run.go_over({block: list(plan.wanted(block)) for block in blocks})
            if refused:
                run.tell(refused)
            while refused:
                before, refused = refused, run.go_over(refused)
                if refused == before:
                    hooks.wait(_LOOK_SECONDS)
        except BaseException:
            workers.shutdown(wait=False, cancel_futures=True)
            raise
    return run.commits.processed


class _Tally:
    """Images of these blocks whose features are committed, by whomever."""

    def __init__(self, plan: BlockPlan, blocks: Sequence[int], hooks: Hooks) -> None:
        self._left = {block: _count_images(plan.wanted(block)) for block in blocks}
        self._total, self._hooks = sum(self._left.values()), hooks

    def add(self, block: int, images: int | None) -> None:
        """So many images more of a block are committed; all for None."""
        left = self._left[block]
        if arrived := left if images is None else min(images, left):
            self._left[block] -= arrived
            self._hooks.progress(self._total - sum(self._left.values()), self._total)


def _count_images(wanted: Mapping[int, Mask]) -> int:
    return int(np.any(list(wanted.values()), axis=0).sum()) if wanted else 0


@dataclass(frozen=True)
class _Part:
    """What was embedded of a block, on its way into the store.

    Attributes:
        block: Number of the block.
        jobs: Numbers of the jobs that it is computed for.
        results: What each of its batches came to.
        images: Images decoded for it.
        whole: Whether this completes what those jobs want of the block.
        last: Whether no other process has anything of it.
    """

    block: int
    jobs: Sequence[int]
    results: Sequence[Mapping[int, Embedded]]
    images: int
    whole: bool
    last: bool


class _Commits:
    """Blocks on their way into the store, one at a time, and what has arrived there."""

    def __init__(self, plan: BlockPlan, claims: Claims, writer: ThreadPoolExecutor, tally: _Tally) -> None:
        self.processed, self.tally = Processed(), tally
        self._plan, self._claims, self._writer = plan, claims, writer
        self._writing: deque[tuple[Future[Costs], _Part]] = deque()

    def add(self, part: _Part) -> None:
        """Commit what is embedded of a block, when the one before has arrived."""
        self.wait()
        self._writing.append((self._writer.submit(self._plan.write, part.block, part.results), part))

    def wait(self, *, only_if_done: bool = False) -> None:
        """Wait for what is being written; or only look whether it has arrived."""
        while self._writing and (not only_if_done or self._writing[0][0].done()):
            future, part = self._writing.popleft()
            self.processed.costs.add(future.result())
            for result in part.results:
                self._count(result)
            if part.whole:
                for number in part.jobs:
                    self._claims.release(self._plan.jobs[number].entry.path, part.block)
            self.tally.add(part.block, None if part.whole and part.last else part.images)

    def _count(self, result: Mapping[int, Embedded]) -> None:
        for number, embedded in result.items():
            rows = int((embedded.state != MISSING).sum())
            self.processed.embedded[self._plan.jobs[number].request.digest] += rows


_Opened = tuple[int, list[int], list[Future[Result]]]
"""Block, jobs that want something of it, batches that are being embedded."""


class _Run:
    """One call of `process_blocks`."""

    def __init__(
        self,
        plan: BlockPlan,
        claims: Claims,
        workers: ThreadPoolExecutor,
        commits: _Commits,
        hooks: Hooks,
        rows: range | None,
    ) -> None:
        self._plan, self._claims, self._workers, self.commits = plan, claims, workers, commits
        self._hooks, self._rows = hooks, rows

    def go_over(self, asked: Refused) -> Refused:
        """Compute what can be claimed, block after block; what others have is handed back."""
        refused: Refused = {}
        for block, jobs, futures in self._submitted(asked, refused):
            self._collect(block, jobs, futures, last=block not in refused)
        self.commits.wait()
        return refused

    def tell(self, refused: Refused) -> None:
        """Say for whom this waits."""
        block, (job, *_) = next(iter(refused.items()))
        holder = self._claims.holder(self._plan.jobs[job].entry.path, block)
        self._hooks.notice(f"Waiting for {len(refused):,} blocks that others compute, the first by {holder}.")

    def _submitted(self, asked: Refused, refused: Refused) -> Iterator[_Opened]:
        """Blocks in order; behind the one that is handed out, so many are open that every worker has batches ahead."""
        opened: deque[_Opened] = deque()
        for block, jobs in asked.items():
            wanted = self._claim(block, jobs, refused)
            if wanted:
                batches = self._plan.batches(block, wanted)
                opened.append((block, list(wanted), [self._workers.submit(self._plan.embed, one) for one in batches]))
            elif block not in refused:
                self.commits.tally.add(block, None)
            while sum(len(futures) for _, _, futures in list(opened)[1:]) >= _AHEAD * self._plan.decoding.workers:
                yield opened.popleft()
        yield from opened

    def _claim(self, block: int, jobs: Sequence[int], refused: Refused) -> dict[int, Mask]:
        """Job -> rows of a block that are this process's to embed."""
        wanted: dict[int, Mask] = {}
        for number in jobs:
            path = self._plan.jobs[number].entry.path
            if not self._claims.acquire(path, block):
                refused.setdefault(block, []).append(number)
                continue
            mask = self._within(self._plan.still_wanted(block, number))
            if mask.any():
                wanted[number] = mask
            else:
                self._claims.release(path, block)
        return wanted

    def _within(self, mask: Mask) -> Mask:
        if self._rows is None:
            return mask
        places = np.arange(len(mask))
        return mask & (places >= self._rows.start) & (places < self._rows.stop)

    def _collect(self, block: int, jobs: Sequence[int], futures: Sequence[Future[Result]], *, last: bool) -> None:
        """Take what the workers embed of a block, and commit it whole, or in parts where that takes long."""
        clock = self._hooks.clock
        started, images = clock(), 0
        results: list[Mapping[int, Embedded]] = []
        for future in futures:
            embedded, spent = future.result()
            results.append(embedded)
            self.commits.processed.costs.add(spent)
            images += spent.images
            self.commits.wait(only_if_done=True)
            if len(results) < len(futures) and clock() - started >= COMMIT_SECONDS:
                self.commits.add(_Part(block, jobs, results, images, whole=False, last=False))
                started, images, results = clock(), 0, [{} for _ in results]
        self.commits.add(_Part(block, jobs, results, images, whole=True, last=last))
