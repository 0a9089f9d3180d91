"""Ablations: what one change does to a score, from configurations that differ in it alone (Table 4 of the study)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from probes.results.run import COMPARED, name_untested, tell_untested
from probes.results.scores import Metric
from probes.results.tables import Table
from probes.statistics.bootstrap import CONFIDENCE
from probes.statistics.configurations import TRAINING, Configuration, find_changes
from probes.statistics.family import Family, Pair
from probes.statistics.feature_info import FeatureInfo, count_params, differ_in, same_family
from probes.statistics.significance import METRICS, ROWS_AND_SEEDS, ROWS_ONLY, Comparison, describe_intervals
from probes.sweep.combination import split_names

LINEAR = "linear"
"""The head that ablations begin from, as in the study."""

HEADS = {"whitened": "whitening", "mlp": "MLP", "whitened-mlp": "whitening and MLP"}
"""Head -> the ablation that it is."""

FIELDS = {"resize": "input size", "crop": "crop", "stretch": "stretch"}
"""Field of the preprocessing -> the ablation that changes it."""

BIGGER, COMBINED, TUNING = "bigger model", "combination", "fine-tuning"

ABLATIONS = (*HEADS.values(), BIGGER, *FIELDS.values(), COMBINED, TUNING)
"""All ablations, in the order of the table: nearly that of the study."""

_OFF = "none"
"""Value of a field of the preprocessing that does nothing."""


class Ablation(NamedTuple):
    """What one change does.

    Attributes:
        name: One of `ABLATIONS`.
        base: The linear head without it.
        changed: The same with it.
        found: The paired difference; None where both have no seed in common.
        n_comparisons: Comparisons that `found` was judged together with.
    """

    name: str
    base: Configuration
    changed: Configuration
    found: Comparison | None
    n_comparisons: int


def name_ablation(base: Configuration, other: Configuration, infos: Sequence[FeatureInfo]) -> str | None:
    """The ablation by which a configuration differs from a linear head; None for another difference, or several.

    Args:
        base: The linear head.
        other: Another configuration.
        infos: What is known of the features.
    """
    changed, one, new = find_changes(base, other), base.first, other.first
    if other.trained:  # it has a pooling, a key and a protocol of its own
        return TUNING if changed <= {"head", "pooling", "key", "protocol", "settings"} else None
    if changed == {"head"}:
        return HEADS.get(new.head)
    if "backbone" in changed:
        if changed <= {"backbone", "key", "pooling"} and one.backbone in split_names(new.backbone):
            return COMBINED
        return BIGGER if changed == {"backbone", "key"} and _is_bigger(one.backbone, new.backbone, infos) else None
    if changed == {"variant", "key"}:
        prepared = {info.key: info.preprocessing for info in infos}
        pair = prepared.get(one.key, {}), prepared.get(new.key, {})
        return next((name for field, name in FIELDS.items() if differ_in(*pair, field)), None)
    return None


def base_configurations(configurations: Sequence[Configuration], infos: Sequence[FeatureInfo]) -> list[Configuration]:
    """Linear heads on single backbones at the variant that most backbones have, with the largest share of the labels.

    Of equals the variant counts that does least to the images: no crop, no stretch, the smallest input.
    """
    linear = [one for one in configurations if one.first.head == LINEAR and len(split_names(one.first.backbone)) == 1]
    largest = max((one.first.fraction for one in linear), default=100)
    linear = [one for one in linear if one.first.fraction == largest]
    backbones: dict[str, set[str]] = {}
    for one in linear:
        backbones.setdefault(one.first.variant, set()).add(one.first.backbone)
    plain = {info.variant: _plainness(info) for info in reversed(infos)}
    best = min(backbones, key=lambda name: (-len(backbones[name]), plain.get(name, (2, 0)), name), default=None)
    return [one for one in linear if one.first.variant == best]


def ablation_pairs(configurations: Sequence[Configuration], infos: Sequence[FeatureInfo]) -> list[tuple[str, Pair]]:
    """Name of the ablation, and the linear head with the configuration that differs in it; in the order of the table.

    Args:
        configurations: Of one test set.
        infos: What is known of the features.
    """
    found = [
        (name, (base, other))
        for base in base_configurations(configurations, infos)
        for other in configurations
        if (name := name_ablation(base, other, infos))
    ]
    return sorted(found, key=lambda one: ABLATIONS.index(one[0]))


def measure_ablations(
    configurations: Sequence[Configuration],
    infos: Sequence[FeatureInfo],
    metric: Metric = "f1",
    family: Family | None = None,
    **options: Any,
) -> list[Ablation]:
    """What each change does to each linear head of `base_configurations`.

    Args:
        configurations: Of one test set.
        infos: What is known of the features.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        family: Comparisons that are judged together, `ablation_pairs` among them; None: these alone.
        **options: See `probes.statistics.significance.Resamples`, for a family of its own.

    Raises:
        ProbeError: See `probes.statistics.significance.Resamples`.
    """
    named = ablation_pairs(configurations, infos)
    if not named:
        return []
    judged = family or Family((), [pair for _, pair in named], metric, **options)
    return [Ablation(name, *pair, judged.compare(*pair), len(judged)) for name, pair in named]


def ablation_frame(ablations: Sequence[Ablation]) -> pd.DataFrame:
    """One row an ablation.

    Columns: ``ablation``, ``change`` in words, `probes.results.run.COMPARED` of the base, ``metric``, ``seeds`` (their
    number), ``n_test``, ``untested`` (classes without test rows), ``comparisons`` that are judged together; ``base``,
    ``score``: means over the common seeds; ``relative``, ``relative_low``, ``relative_high`` in percent of the base;
    ``difference``, ``difference_low``, ``difference_high``; ``interval_over``: ``rows and seeds``, or ``rows`` where
    runs do not differ between seeds; ``p``, and ``p_holm``, adjusted for the family. Numbers are NaN where there is no
    common seed.
    """
    rows = [
        {"ablation": one.name, "change": _tell_change(one)}
        | {name: getattr(one.base.first, name) for name in COMPARED}
        | {"n_test": len(one.base.first.truth), "untested": name_untested(one.base.runs)}
        | {"comparisons": one.n_comparisons}
        | (_numbers(one.found) if one.found else {"seeds": 0})
        for one in ablations
    ]
    names = ["ablation", "change", *COMPARED, "n_test", "untested", "comparisons", *_NUMBERS]
    return pd.DataFrame(rows, columns=names)


def ablation_table(frame: pd.DataFrame, confidence: float = CONFIDENCE) -> Table:
    """The study's Table 4: ablations as rows, backbones as columns, cells the relative change with its interval.

    Args:
        frame: See `ablation_frame`; at least one row.
        confidence: Level of the intervals.
    """
    rows = ["ablation", "change"]
    rows += [name for name in ("pooling", "protocol") if (frame[name] != frame[name].iloc[0]).any()]
    if frame.duplicated([*rows, "backbone"]).any():
        rows.append("key")
    vary = frame.loc[frame["seeds"] > 0, "interval_over"] == ROWS_AND_SEEDS
    cells = frame.assign(cell=[_show(row, 1 - confidence, bool(vary.any())) for row in frame.itertuples()])
    wide = cells.pivot_table(index=rows, columns="backbone", values="cell", aggfunc="first", sort=False)
    wide.columns = pd.Index([f"{name}" for name in wide.columns])
    one, seeds = frame.iloc[0], frame["seeds"].agg(["min", "max"]).unique()
    caption = (
        f"Relative change in {one['metric']} by each ablation on {one['dataset']} ({one['scheme']}), against the "
        f"linear head on {one['variant']} with {one['fraction']} % of the labels; mean over "
        f"{' to '.join(map(str, seeds))} runs, {describe_intervals(confidence, one['n_test'], vary)} *: differs from "
        f"zero at {confidence:.0%} after Holm's correction for {one['comparisons']} comparisons."
        f"{tell_untested(frame['untested'])}"
    )
    return Table(caption, wide.fillna("-").reset_index())


_NUMBERS = (
    "metric", "seeds", "base", "score", "relative", "relative_low", "relative_high",
    "difference", "difference_low", "difference_high", "interval_over", "p", "p_holm",
)  # fmt: skip


def _is_bigger(first: str, second: str, infos: Sequence[FeatureInfo]) -> bool:
    small, large = count_params(first, infos), count_params(second, infos)
    return same_family(first, second) and bool(small) and large > small


def _plainness(info: FeatureInfo) -> tuple[int, int]:
    """How much a preprocessing does to the images, and the size it gives them."""
    prepared = info.preprocessing
    changed = sum(prepared.get(field, _OFF) != _OFF for field in ("crop", "stretch"))
    return changed, int(prepared.get("resize") or 0)


def _tell_change(ablation: Ablation) -> str:
    """What is new: head, variant or backbone."""
    one = ablation.changed.first
    if ablation.changed.trained:
        return one.head.removeprefix(TRAINING)
    return {BIGGER: one.backbone, COMBINED: one.backbone}.get(
        ablation.name, one.head if one.head != LINEAR else one.variant
    )


def _numbers(found: Comparison) -> dict[str, Any]:
    one = found.difference
    relative = [100 * value for value in found.relative]
    values = (
        METRICS[one.metric], len(found.seeds), found.base, found.base + one.value, *relative,
        one.value, one.low, one.high, ROWS_AND_SEEDS if found.seeds_vary else ROWS_ONLY, one.p_value, found.p_adjusted,
    )  # fmt: skip
    return dict(zip(_NUMBERS, values, strict=True))


def _show(row: Any, level: float, seeds_vary: bool) -> str:
    """A cell; it says where its interval is over rows only while that of others is over seeds too."""
    if not np.isfinite(row.relative):
        return "no common seed" if not row.seeds else f"{row.difference:+.3f} from 0"
    star = "*" if row.p_holm < level else ""
    alone = " (rows)" if seeds_vary and row.interval_over == ROWS_ONLY else ""
    return f"{row.relative:+.1f} %{star} [{row.relative_low:+.1f}, {row.relative_high:+.1f}]{alone}"
