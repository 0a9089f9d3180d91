"""Configurations: runs that differ in their seed alone, as they are cited and compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, Any

from featurestore.training_rows import SEEN
from probes.results.run import COMPARED, IDENTITY, Run
from probes.results.scores import Metric
from probes.sweep.tasks import digest_origin

if TYPE_CHECKING:
    from featurestore.samples import SampleTable

TRAINING = "finetune:"
"""How the heads of trainings begin: ``finetune:lora``."""


@dataclass(frozen=True)
class Configuration:
    """Runs that differ in their seed alone, in the order of the seeds.

    Attributes:
        runs: At least one.
        groups: Group of each test row, empty for none; None where the dataset has no groups.
    """

    runs: tuple[Run, ...]
    groups: tuple[str, ...] | None = None

    @property
    def first(self) -> Run:
        """The run of the lowest seed: what it says besides its numbers holds for all."""
        return self.runs[0]

    @property
    def mean(self) -> float:
        """Mean macro-F1."""
        return self.score("f1")

    def score(self, metric: Metric) -> float:
        """Mean of the metric over the runs."""
        return fmean((run.scores.overall if metric == "accuracy" else run.scores.macro)[metric] for run in self.runs)

    def varies(self, seeds: Collection[int] | None = None) -> bool:
        """Whether runs of these seeds (None: all) predict different classes: else nothing is known of training."""
        return len({run.predicted.tobytes() for run in self.runs if seeds is None or run.seed in seeds}) > 1

    @property
    def trained(self) -> bool:
        """Whether it comes from a training, not from a probe on stored features."""
        return self.first.head.startswith(TRAINING)

    @property
    def settings(self) -> str:
        """What was asked of the head besides its name, as JSON; empty for nothing."""
        return _settings(self.first)

    @property
    def name(self) -> str:
        """What tells it from others of its dataset and label fraction, with commas between."""
        one = self.first
        parts = (one.backbone, one.variant, one.pooling, one.key, one.head, one.protocol, self.settings)
        return ", ".join(part for part in parts if part)

    def __str__(self) -> str:
        """The row as it is cited."""
        one, values = self.first, [run.scores.macro["f1"] for run in self.runs]
        seeds = ", ".join(str(run.seed) for run in self.runs)
        options = f" {self.settings}" if self.settings else ""
        untested = f", no test rows of {', '.join(one.untested)}" if one.untested else ""
        return (
            f"{one.dataset} ({one.scheme}): {one.backbone}, {one.variant}, {one.pooling}, head {one.head}, "
            f"{one.protocol}{options}, {one.fraction} % of the labels ({one.n_train:,}), seeds {seeds}, "
            f"{len(one.truth):,} test rows{untested}: macro-F1 {self.mean:.3f} [{min(values):.3f}-{max(values):.3f}]"
        )


def gather_configurations(
    runs: Sequence[Run], table: SampleTable | None = None
) -> tuple[tuple[Configuration, ...], int]:
    """The configurations of runs on one dataset and scheme, and how many runs were left out.

    Only runs on the test rows that most runs share can be compared. Of the runs of one configuration those count that
    were made from the labels of the table with the heads and libraries of today, if there are any. Of several runs of
    the same identity that are left, the one with the most training rows counts, and of equals the first.

    Args:
        runs: The runs, in any order.
        table: Samples of the dataset, for its groups and labels; None: every test row is on its own, and nothing
            is known of what was made today.
    """
    shared = max(_group(runs, tested_on), key=len, default=[])
    today = _find_origin(shared[0].scheme, table) if shared and table else ""
    fresh = [_keep_fresh(part, today) for part in _group(shared, lambda run: _identify(run, COMPARED))]
    found = [tuple(max(part, key=lambda run: run.n_train) for part in _group(own, _identify)) for own in fresh]
    groups = _find_groups(shared[0].sample_ids, table) if shared and table else None
    return tuple(Configuration(part, groups) for part in found), len(runs) - len(shared)


def find_changes(first: Configuration, second: Configuration) -> set[str]:
    """Fields of `probes.results.run.COMPARED` in which two configurations differ, and ``settings``."""
    changed = {name for name in COMPARED if getattr(first.first, name) != getattr(second.first, name)}
    return changed | ({"settings"} if first.settings != second.settings else set())


def tested_on(run: Run) -> tuple[Any, ...]:
    """What runs must share to be compared: their test rows, classes and true labels."""
    return run.sample_ids, run.classes, run.truth.tobytes()


def _settings(run: Run) -> str:
    """What was asked of a probe besides its head: runs that differ in it are not repetitions of each other.

    Trainings need no options: their keys differ with these. Test rows that the backbone was trained on are told of all.
    """
    names = (SEEN,) if run.head.startswith(TRAINING) else ("options", "validation", SEEN)
    given = {name: run.params[name] for name in names if name in run.params}
    return json.dumps(given, sort_keys=True) if given else ""


def _identify(run: Run, names: Sequence[str] = IDENTITY) -> tuple[str, ...]:
    """Text that orders and tells runs apart; seeds and fractions by their number."""
    fields = (getattr(run, name) for name in names)
    cells = [f"{field:09d}" if isinstance(field, int) else str(field) for field in fields]
    return (*cells, _settings(run))


def _find_groups(sample_ids: Sequence[str], table: SampleTable) -> tuple[str, ...] | None:
    """Groups of test rows; a row that the table has no longer is in none."""
    if table.groups is None:
        return None
    known = dict(zip(table.sample_ids, table.groups.tolist(), strict=True))
    return tuple(known.get(name, "") for name in sample_ids)


def _find_origin(scheme: str, table: SampleTable) -> str:
    """The origin of runs that would be made today; empty for a scheme of a mapping file."""
    return digest_origin(table, scheme) if scheme in table.labels else ""


def _keep_fresh(runs: list[Run], today: str) -> list[Run]:
    """The runs of one configuration that would be made like this today; all where none is known to be."""
    return [run for run in runs if run.origin == today] or runs


def _group(runs: Iterable[Run], by: Callable[[Run], tuple[Any, ...]]) -> list[list[Run]]:
    ordered = sorted(runs, key=by)
    return [list(part) for _, part in groupby(ordered, key=by)]
