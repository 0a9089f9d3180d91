"""Configurations by their score, the best first, and which of them cannot be told from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from probes.results.run import COMPARED, name_untested, tell_apart, tell_untested
from probes.results.scores import Metric
from probes.results.tables import Table
from probes.statistics.bootstrap import CONFIDENCE
from probes.statistics.configurations import Configuration
from probes.statistics.family import Family, Pair
from probes.statistics.significance import METRICS, ROWS_AND_SEEDS, ROWS_ONLY, Comparison, describe_intervals

REFERENCE, TIED, DISTINCT, UNPAIRED = "-", "yes", "no", "no common seed"
"""Values of the column ``tied`` of a ranking."""

_NUMBERS = ("difference", "difference_low", "difference_high", "p", "p_holm")


def ranking_pairs(
    configurations: Sequence[Configuration], metric: Metric = "f1", against: Configuration | None = None
) -> list[Pair]:
    """The reference with each other configuration, the best first.

    Args:
        configurations: At least one; of one test set.
        metric: What they are ordered by.
        against: The reference, one of them itself; None: the best.
    """
    ordered = sorted(configurations, key=lambda one: (-one.score(metric), str(one)))
    reference = next((one for one in ordered if one is against), ordered[0])
    return [(reference, one) for one in ordered if one is not reference]


def rank(
    configurations: Sequence[Configuration],
    metric: Metric = "f1",
    against: Configuration | None = None,
    family: Family | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Configurations by their mean score, the best first, and how sure it is that they differ from it.

    Columns: those of `probes.results.run.COMPARED`, ``settings``, ``n_train``, ``seeds`` (their number), ``n_test``,
    ``untested`` (classes without test rows), ``metric``; ``mean``, ``low``, ``high``; ``interval_over``: ``rows and
    seeds``, or ``rows`` where runs do not differ between seeds; ``difference``, ``difference_low``,
    ``difference_high`` from the reference over the common seeds; ``p`` of it, ``p_holm``, adjusted for the family,
    whose size is ``comparisons``; ``tied``: ``-`` for the reference, ``yes`` where it cannot be told from it, ``no``,
    or ``no common seed``.

    Args:
        configurations: At least one; of one test set.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        against: The reference, one of the configurations itself; None: the best.
        family: Comparisons that are judged together, `ranking_pairs` among them; None: these alone.
        **options: See `probes.statistics.significance.Resamples`, for a family of its own.

    Raises:
        ProbeError: See `probes.statistics.significance.Resamples`.
    """
    pairs = ranking_pairs(configurations, metric, against)
    judged = family or Family(configurations, pairs, metric, **options)
    reference = pairs[0][0] if pairs else configurations[0]
    ordered = sorted([reference, *(other for _, other in pairs)], key=lambda one: (-one.score(metric), str(one)))
    rows = [_describe(one, reference, judged) for one in ordered]
    return pd.DataFrame(rows)


def describe_configuration(configuration: Configuration) -> dict[str, Any]:
    """What identifies a row: `COMPARED`, ``settings``, ``n_train``, ``seeds``, ``n_test`` and ``untested``."""
    one = configuration.first
    fields = {name: getattr(one, name) for name in COMPARED} | {"settings": configuration.settings}
    counts = {"n_train": one.n_train, "seeds": len(configuration.runs), "n_test": len(one.truth)}
    return fields | counts | {"untested": name_untested(configuration.runs)}


def ranking_table(ranking: pd.DataFrame, confidence: float = CONFIDENCE) -> Table:
    """A ranking as it is shown: what tells its rows apart, and numbers with their intervals."""
    names = tell_apart(ranking)
    reference = ranking[ranking["tied"] == REFERENCE].iloc[0]
    metric = reference["metric"]
    cells = ranking[names].astype(str)
    cells[metric] = [f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in ranking.itertuples()]
    if len(set(ranking["interval_over"])) > 1:
        cells["interval over"] = ranking["interval_over"]
    cells["difference"] = [_show_difference(row) for row in ranking.itertuples()]
    cells["p (Holm)"] = ["-" if np.isnan(p) else f"{p:.2g}" for p in ranking["p_holm"]]
    cells["tied"] = ranking["tied"]
    shared = [f"{name} {reference[name]}" for name in (*COMPARED, "settings") if name not in names and reference[name]]
    first = "the best, which these same test rows chose" if reference.name == 0 else _name(reference, names)
    seeds = ranking["seeds"].agg(["min", "max"]).unique()
    intervals = describe_intervals(confidence, reference["n_test"], ranking["interval_over"] == ROWS_AND_SEEDS)
    caption = (
        f"{metric}, mean over {' to '.join(map(str, seeds))} runs, and difference from {first}; {intervals} Tied: not "
        f"told from it at {confidence:.0%} after Holm's correction for {reference['comparisons']} comparisons. "
        f"All rows: {', '.join(shared)}."
        f"{tell_untested(ranking['untested'])}"
    )
    return Table(caption, cells)


def _describe(configuration: Configuration, reference: Configuration, family: Family) -> dict[str, Any]:
    value, low, high = family.measure(configuration)
    found = None if configuration is reference else family.compare(reference, configuration)
    return (
        describe_configuration(configuration)
        | {"metric": METRICS[family.metric], "mean": value, "low": low, "high": high}
        | {"interval_over": ROWS_AND_SEEDS if configuration.varies() else ROWS_ONLY}
        | (_judge(found) if found else _skip(configuration is reference))
        | {"comparisons": len(family)}
    )


def _judge(found: Comparison) -> dict[str, Any]:
    one = found.difference
    numbers = dict(zip(_NUMBERS, (one.value, one.low, one.high, one.p_value, found.p_adjusted), strict=True))
    return numbers | {"tied": DISTINCT if found.verdict else TIED}


def _skip(is_reference: bool) -> dict[str, Any]:
    return dict.fromkeys(_NUMBERS, np.nan) | {"tied": REFERENCE if is_reference else UNPAIRED}


def _show_difference(row: Any) -> str:
    if np.isnan(row.difference):
        return "-"
    return f"{row.difference:+.3f} [{row.difference_low:+.3f}, {row.difference_high:+.3f}]"


def _name(row: pd.Series[Any], names: Sequence[str]) -> str:
    return ", ".join(str(row[name]) for name in names)
