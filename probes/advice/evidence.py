"""What advice is drawn from: measured lines, and what is known of the features behind them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Any

from probes.combination import split_names
from probes.results import COMPARED, IDENTITY, Run, compare

TRAINING = "finetune:"
"""How the heads of trainings begin: ``finetune:lora``."""


@dataclass(frozen=True)
class Line:
    """Runs that differ in their seed alone, in the order of the seeds.

    Attributes:
        runs: At least one.
    """

    runs: tuple[Run, ...]

    @property
    def first(self) -> Run:
        """The run of the lowest seed: what it says besides its numbers holds for all."""
        return self.runs[0]

    @property
    def mean(self) -> float:
        """Mean macro-F1."""
        return fmean(run.scores.macro["f1"] for run in self.runs)

    @property
    def trained(self) -> bool:
        """Whether it comes from a training, not from a probe on stored features."""
        return self.first.head.startswith(TRAINING)

    @property
    def settings(self) -> str:
        """What was asked of the head besides its name, as JSON; empty for nothing."""
        return _settings(self.first)

    def __str__(self) -> str:
        """The row as it is cited."""
        one, values = self.first, [run.scores.macro["f1"] for run in self.runs]
        seeds = ", ".join(str(run.seed) for run in self.runs)
        options = f" {self.settings}" if self.settings else ""
        return (
            f"{one.dataset} ({one.scheme}): {one.backbone}, {one.variant}, {one.pooling}, head {one.head}, "
            f"{one.protocol}{options}, {one.fraction} % of the labels ({one.n_train:,}), seeds {seeds}, "
            f"{len(one.truth):,} test rows: macro-F1 {self.mean:.3f} [{min(values):.3f}-{max(values):.3f}]"
        )


@dataclass(frozen=True)
class Source:
    """A stored feature matrix: what was done to the images, and which model saw them.

    Attributes:
        key: KEY12.
        backbone: Name of the backbone.
        variant: Name of the variant.
        preprocessing: The resolved preprocessing.
        patch: Side of a patch in pixels; None for a CNN, or where it is not known.
        params: Millions of parameters; 0 where they are not known.
    """

    key: str
    backbone: str
    variant: str
    preprocessing: Mapping[str, Any]
    patch: int | None
    params: float


@dataclass(frozen=True)
class Evidence:
    """All that was measured on one label scheme of a dataset.

    Attributes:
        data: What the user calls the dataset.
        scheme: Label scheme.
        lines: Lines that were tested on the same rows.
        sources: The stored feature matrices.
        elsewhere: Number of runs that were left out, because they were tested on other rows.
        store: Words by which a command finds the store; empty for the default one.
    """

    data: str
    scheme: str
    lines: tuple[Line, ...]
    sources: tuple[Source, ...]
    elsewhere: int = 0
    store: tuple[str, ...] = ()

    def command(self, verb: str, backbone: str, *words: str, variants: Iterable[str] = ()) -> str:
        """A command line for this dataset."""
        chosen = [word for variant in variants for word in ("-p", variant)]
        return shlex.join(["skyprobe", verb, self.data, "-b", backbone, *chosen, *words, *self.store])

    def probe_command(self, line: Line, heads: str, *words: str) -> str:
        """The command that fits heads on the features of a line."""
        return self._probe(line, line.first.backbone, line.first.variant, heads, *words)

    def measure_command(self, line: Line, backbone: str, variant: str) -> str:
        """The commands that embed by this backbone at this variant, and fit the head of a line there."""
        extract = self.command("extract", backbone, variants=[variant])
        return f"{extract} && {self._probe(line, backbone, variant, line.first.head)}"

    def _probe(self, line: Line, backbone: str, variant: str, heads: str, *words: str) -> str:
        given = ["--head", heads, "--protocol", line.first.protocol, "--pooling", line.first.pooling]
        return self.command("probe", backbone, *given, "--labels", self.scheme, *words, variants=[variant])

    def find(self, **fields: Any) -> list[Line]:
        """Lines whose runs have these fields."""
        return [line for line in self.lines if all(getattr(line.first, name) == v for name, v in fields.items())]

    def params(self, backbone: str) -> float:
        """Millions of parameters of a backbone, or of all those that it combines; 0 if one is not known."""
        known = {source.backbone: source.params for source in self.sources}
        each = [known.get(name, 0.0) for name in split_names(backbone)]
        return sum(each) if all(each) else 0.0


@dataclass(frozen=True)
class Comparison:
    """The second line less the first, in macro-F1.

    Attributes:
        first: What it is compared with.
        second: What is judged.
        value: Mean difference over the common seeds.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    first: Line
    second: Line
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> int:
        """1 where the second is better, -1 where it is worse, 0 where the interval does not tell."""
        return int(self.low > 0) - int(self.high < 0)

    @property
    def rows(self) -> tuple[str, str]:
        """Both lines as they are cited."""
        return str(self.first), str(self.second)

    def __str__(self) -> str:
        """``+0.021 [+0.008, +0.034] (+3.1 %)``."""
        relative = f" ({self.value / self.first.mean:+.1%})" if self.first.mean else ""
        return f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]{relative}"


def compare_lines(first: Line, second: Line) -> Comparison | None:
    """The paired difference of two lines over their common seeds; None if there are none.

    Each pair of runs is resampled by test rows, at 95 %; the interval reaches from the lowest end of a pair to the
    highest, so that it covers the draw of the seeds too.
    """
    mine, theirs = ({run.seed: run for run in line.runs} for line in (first, second))
    pairs = [compare(mine[seed], theirs[seed]) for seed in mine if seed in theirs]
    if not pairs:
        return None
    low, high = min(pair.low for pair in pairs), max(pair.high for pair in pairs)
    return Comparison(first, second, fmean(pair.value for pair in pairs), low, high)


def gather_lines(runs: Sequence[Run]) -> tuple[tuple[Line, ...], int]:
    """The lines of runs on one dataset and scheme, and how many runs were left out.

    Only runs on the test rows that most runs share can be compared. Of several runs of the same identity, which other
    library versions or an older state of the dataset left behind, the one with the most training rows counts, and of
    equals the first.
    """
    shared = max(_group(runs, _tested_on), key=len, default=[])
    once = [max(part, key=lambda run: run.n_train) for part in _group(shared, _identify)]
    lines = [
        tuple(sorted(part, key=lambda run: run.seed)) for part in _group(once, lambda run: _identify(run, COMPARED))
    ]
    return tuple(map(Line, lines)), len(runs) - len(shared)


def same_family(first: str, second: str) -> bool:
    """Whether two names of backbones differ in their size alone: dinov2-s and dinov2-b, resnet-50 and resnet-152."""
    parts = [name.split("-") for name in (first, second)]
    if len(parts[0]) != len(parts[1]):
        return False
    different = [(a, b) for a, b in zip(*parts, strict=True) if a != b]
    return len(different) == 1 and all(_SIZE.fullmatch(part) for part in different[0])


_SIZE = re.compile(r"n|t|s|b|l|h|g|so|so400m|\d+")


def _settings(run: Run) -> str:
    """What was asked of a probe besides its head: runs that differ in it are no repetitions of each other.

    Trainings need none: their keys differ with their options.
    """
    given = {name: run.params[name] for name in ("options", "validation") if name in run.params}
    return json.dumps(given, sort_keys=True) if given and not run.head.startswith(TRAINING) else ""


def _identify(run: Run, names: Sequence[str] = IDENTITY) -> tuple[str, ...]:
    """Text that orders and tells runs apart; seeds and fractions by their number."""
    fields = (getattr(run, name) for name in names)
    cells = [f"{field:09d}" if isinstance(field, int) else str(field) for field in fields]
    return (*cells, _settings(run))


def _tested_on(run: Run) -> tuple[Any, ...]:
    return run.sample_ids, run.classes, run.truth.tobytes()


def _group(runs: Iterable[Run], by: Callable[[Run], tuple[Any, ...]]) -> list[list[Run]]:
    ordered = sorted(runs, key=by)
    return [list(part) for _, part in groupby(ordered, key=by)]
