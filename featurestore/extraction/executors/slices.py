"""Slices: every N-th block, for job arrays whose jobs know only their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from featurestore.errors import UsageError


@dataclass(frozen=True)
class Slice:
    """Blocks whose number leaves `index` when divided by `count`, whatever else there is to do.

    Attributes:
        index: From 0.
        count: How many slices there are.
    """

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"there is no slice {self.index} of {self.count}",
                where="--slice",
                hint=f"Slices are numbered from 0: 0/{self.count} to {self.count - 1}/{self.count}."
                if self.count > 0
                else "Give --slice I/N with N of 1 or more, such as 0/4.",
            )

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def take(self, blocks: Sequence[int]) -> list[int]:
        """Those of some blocks that are in this slice."""
        return [block for block in blocks if block % self.count == self.index]


def parse_slice(text: str) -> Slice:
    """The slice that ``I/N`` means."""
    index, _, count = text.partition("/")
    try:
        return Slice(int(index), int(count))
    except ValueError:
        raise UsageError(
            f"{text!r} is not a slice", where="--slice", hint="Give --slice I/N, such as 0/4 for the first of four."
        ) from None


def slice_from_slurm(environment: Mapping[str, str]) -> Slice:
    """The slice of a task of SLURM: its place in the job array, and among the tasks that ``srun`` started.

    Args:
        environment: Variables of the process. Outside of SLURM the slice is everything.
    """
    array = _array_slice(environment)
    if "SLURM_STEP_ID" not in environment:  # a batch script is not one of the tasks that it starts
        return array
    rank, ranks = _read(environment, "SLURM_PROCID", 0), _read(environment, "SLURM_NTASKS", 1)
    ranks = _read(environment, "SLURM_STEP_NUM_TASKS", ranks)
    return Slice(array.index * ranks + rank, array.count * ranks)


def _array_slice(environment: Mapping[str, str]) -> Slice:
    if "SLURM_ARRAY_TASK_ID" not in environment:
        return Slice()
    number, first = _read(environment, "SLURM_ARRAY_TASK_ID", 0), _read(environment, "SLURM_ARRAY_TASK_MIN", 0)
    count, step = _read(environment, "SLURM_ARRAY_TASK_COUNT", 1), _read(environment, "SLURM_ARRAY_TASK_STEP", 1)
    index, rest = divmod(number - first, step)
    if rest or not 0 <= index < count:
        raise UsageError(
            f"task {number} of a job array with gaps has no place among its {count} tasks",
            where="SLURM_ARRAY_TASK_ID",
            hint="Give --slice I/N, such as --slice $SLURM_ARRAY_TASK_ID/N.",
        )
    return Slice(index, count)


def _read(environment: Mapping[str, str], name: str, otherwise: int) -> int:
    value: Any = environment.get(name, otherwise)
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"{value!r} is not a number", where=name, hint="Give --slice I/N instead.") from None
