"""A family of comparisons: one correction, and so one verdict on each pair wherever it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from probes.results.scores import Metric
from probes.statistics.bootstrap import Interval
from probes.statistics.configurations import Configuration
from probes.statistics.significance import Comparison, Resamples, adjust_holm

Pair = tuple[Configuration, Configuration]
"""What is compared with, and what is judged."""


class Family:
    """Paired comparisons that are corrected together (Holm), over one set of resamples.

    A pair counts once, whichever of both is judged, and however many tables show it; one without a common seed is
    not a comparison.

    Args:
        configurations: At least one; of one test set. Those of the pairs may be left out.
        pairs: Pairs of configurations that are judged.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        **options: See `Resamples`.

    Raises:
        ProbeError: See `Resamples`.
    """

    def __init__(
        self, configurations: Sequence[Configuration], pairs: Sequence[Pair], metric: Metric = "f1", **options: Any
    ) -> None:
        every = {id(one): one for one in (*configurations, *(one for pair in pairs for one in pair))}
        self.metric = metric
        self._resamples = Resamples(list(every.values()), metric, **options)
        self._place = {name: place for place, name in enumerate(every)}
        once = {frozenset(map(id, pair)): pair for pair in pairs}
        found = {key: self._measure_pair(*pair) for key, pair in once.items() if len(key) == 2}
        known = {key: one for key, one in found.items() if one}
        adjusted = adjust_holm([one.difference.p_value for one in known.values()])
        self._adjusted = dict(zip(known, map(float, adjusted), strict=True))

    @property
    def confidence(self) -> float:
        """Level of the intervals and of the verdicts."""
        return self._resamples.confidence

    def __len__(self) -> int:
        """Number of comparisons that are corrected together."""
        return len(self._adjusted)

    def measure(self, configuration: Configuration) -> Interval:
        """Mean score over the seeds, with its interval."""
        return self._resamples.measure(self._place[id(configuration)])

    def compare(self, first: Configuration, second: Configuration) -> Comparison | None:
        """The second less the first, judged within the family; None if they have no seed in common.

        Raises:
            KeyError: The pair is none of the family.
        """
        found = self._measure_pair(first, second)
        return replace(found, p_adjusted=self._adjusted[frozenset(map(id, (first, second)))]) if found else None

    def _measure_pair(self, first: Configuration, second: Configuration) -> Comparison | None:
        return self._resamples.compare(self._place[id(first)], self._place[id(second)])
