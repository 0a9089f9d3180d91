"""Techniques: what each changes in a score, from lines that differ in that one thing (Table 4 of the study)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from probes.results.run import COMPARED
from probes.results.scores import Metric
from probes.results.tables import Table
from probes.statistics.bootstrap import CONFIDENCE
from probes.statistics.configurations import TRAINING, Configuration, find_changes
from probes.statistics.feature_info import Source, count_params, differ_in, same_family
from probes.statistics.significance import METRICS, Comparison, Resamples, adjust_holm
from probes.sweep.combination import split_names

LINEAR = "linear"
"""The head that techniques are measured on, as in the study."""

HEADS = {"whitened": "whitening", "mlp": "MLP", "whitened-mlp": "whitening and MLP"}
"""Head -> the technique that it is."""

FIELDS = {"resize": "input size", "crop": "crop", "stretch": "stretch"}
"""Field of the preprocessing -> the technique that changes it."""

BIGGER, COMBINED, TUNING = "bigger model", "combination", "fine-tuning"

TECHNIQUES = (*HEADS.values(), BIGGER, *FIELDS.values(), COMBINED, TUNING)
"""All techniques, in the order of the table: nearly that of the study."""

_KEPT = "none"
"""Value of a field of the preprocessing that does nothing."""


class Effect(NamedTuple):
    """What one technique changed.

    Attributes:
        technique: One of `TECHNIQUES`.
        base: The linear head without it.
        line: The same with it.
        found: The paired difference; None where both have no seed in common.
    """

    technique: str
    base: Configuration
    line: Configuration
    found: Comparison | None


def name_ablation(base: Configuration, line: Configuration, sources: Sequence[Source]) -> str | None:
    """The technique in which a line differs from a linear head; None if it is another difference, or more than one.

    Args:
        base: The linear head.
        line: Another line.
        sources: What is known of the features.
    """
    changed, one, other = find_changes(base, line), base.first, line.first
    if line.trained:  # it has a pooling, a key and a protocol of its own
        return TUNING if changed <= {"head", "pooling", "key", "protocol", "settings"} else None
    if changed == {"head"}:
        return HEADS.get(other.head)
    if "backbone" in changed:
        if changed <= {"backbone", "key", "pooling"} and one.backbone in split_names(other.backbone):
            return COMBINED
        return BIGGER if changed == {"backbone", "key"} and _is_bigger(one.backbone, other.backbone, sources) else None
    if changed == {"variant", "key"}:
        prepared = {source.key: source.preprocessing for source in sources}
        pair = prepared.get(one.key, {}), prepared.get(other.key, {})
        return next((name for field, name in FIELDS.items() if differ_in(*pair, field)), None)
    return None


def base_lines(lines: Sequence[Configuration], sources: Sequence[Source]) -> list[Configuration]:
    """Linear heads on single backbones at the variant that most backbones have, with the largest share of the labels.

    Of equals the variant counts that does least to the images: no crop, no stretch, the smallest input.
    """
    linear = [line for line in lines if line.first.head == LINEAR and len(split_names(line.first.backbone)) == 1]
    largest = max((line.first.fraction for line in linear), default=100)
    linear = [line for line in linear if line.first.fraction == largest]
    backbones: dict[str, set[str]] = {}
    for line in linear:
        backbones.setdefault(line.first.variant, set()).add(line.first.backbone)
    plain = {source.variant: _plainness(source) for source in reversed(sources)}
    best = min(backbones, key=lambda name: (-len(backbones[name]), plain.get(name, (2, 0)), name), default=None)
    return [line for line in linear if line.first.variant == best]


def measure_effects(
    lines: Sequence[Configuration], sources: Sequence[Source], metric: Metric = "f1", **options: Any
) -> list[Effect]:
    """The effect of each technique on each linear head of `base_lines`.

    Args:
        lines: Lines of one test set.
        sources: What is known of the features.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        **options: See `probes.statistics.significance.Resamples`.

    Raises:
        ProbeError: See `probes.statistics.significance.Resamples`.
    """
    pairs = sorted(_find_pairs(lines, sources), key=lambda pair: TECHNIQUES.index(pair[0]))
    used = list({id(line): line for pair in pairs for line in pair[1:]}.values())
    if not used:
        return []
    sampled, place = Resamples(used, metric, **options), {id(line): index for index, line in enumerate(used)}
    return [
        Effect(name, base, line, sampled.compare(place[id(base)], place[id(line)])) for name, base, line in pairs
    ]  # fmt: skip


def effect_frame(effects: Sequence[Effect]) -> pd.DataFrame:
    """One row an effect.

    Columns: ``technique``, ``change`` in words, `probes.results.run.COMPARED` of the base, ``metric``, ``seeds`` (their
    number), ``n_test``; ``base``, ``score``: means over the common seeds; ``relative``, ``relative_low``,
    ``relative_high`` in percent of the base; ``difference``, ``difference_low``, ``difference_high``; ``p``, and
    ``p_holm``, adjusted for all rows. Numbers are NaN where the lines have no seed in common.
    """
    found = [effect.found for effect in effects]
    adjusted = iter(adjust_holm([one.difference.p_value for one in found if one]))
    rows = [
        {"technique": effect.technique, "change": _tell_change(effect)}
        | {name: getattr(effect.base.first, name) for name in COMPARED}
        | {"n_test": len(effect.base.first.truth)}
        | (_numbers(effect.found, float(next(adjusted))) if effect.found else {"seeds": 0})
        for effect in effects
    ]
    names = ["technique", "change", *COMPARED, "n_test", *_NUMBERS]
    return pd.DataFrame(rows, columns=names)


def effect_table(effects: pd.DataFrame, confidence: float = CONFIDENCE) -> Table:
    """The study's Table 4: techniques as rows, backbones as columns, cells the relative change with its interval."""
    rows = ["technique", "change"]
    rows += [name for name in ("pooling", "protocol") if (effects[name] != effects[name].iloc[0]).any()]
    if effects.duplicated([*rows, "backbone"]).any():
        rows.append("key")
    cells = effects.assign(cell=[_show(row, 1 - confidence) for row in effects.itertuples()])
    wide = cells.pivot_table(index=rows, columns="backbone", values="cell", aggfunc="first", sort=False)
    wide.columns = pd.Index([f"{name}" for name in wide.columns])
    one, seeds = effects.iloc[0], effects["seeds"].agg(["min", "max"]).unique()
    caption = (
        f"Relative change in {one['metric']} by each technique on {one['dataset']} ({one['scheme']}), against the "
        f"linear head on {one['variant']} with {one['fraction']} % of the labels; mean over "
        f"{' to '.join(map(str, seeds))} runs, {confidence:.0%} intervals of a paired bootstrap over {one['n_test']:,} "
        f"test rows and over seeds. *: differs from zero at {confidence:.0%} after Holm's correction for "
        f"{effects['p_holm'].notna().sum()} comparisons."
    )
    return Table(caption, wide.fillna("-").reset_index())


_NUMBERS = (
    "metric", "seeds", "base", "score", "relative", "relative_low", "relative_high",
    "difference", "difference_low", "difference_high", "p", "p_holm",
)  # fmt: skip


def _find_pairs(
    lines: Sequence[Configuration], sources: Sequence[Source]
) -> Iterator[tuple[str, Configuration, Configuration]]:
    for base in base_lines(lines, sources):
        for line in lines:
            if name := name_ablation(base, line, sources):
                yield name, base, line


def _is_bigger(first: str, second: str, sources: Sequence[Source]) -> bool:
    return same_family(first, second) and count_params(second, sources) > count_params(first, sources) > 0


def _plainness(source: Source) -> tuple[int, int]:
    """How much a preprocessing does to the images, and the size it gives them."""
    prepared = source.preprocessing
    changed = sum(prepared.get(field, _KEPT) != _KEPT for field in ("crop", "stretch"))
    return changed, int(prepared.get("resize") or 0)


def _tell_change(effect: Effect) -> str:
    """What is new in the line: its head, variant or backbone."""
    one = effect.line.first
    if effect.line.trained:
        return one.head.removeprefix(TRAINING)
    return {BIGGER: one.backbone, COMBINED: one.backbone}.get(
        effect.technique, one.head if one.head != LINEAR else one.variant
    )


def _numbers(found: Comparison, adjusted: float) -> dict[str, Any]:
    one = found.difference
    relative = [100 * value for value in found.relative]
    values = (
        METRICS[one.metric], len(found.seeds), found.base, found.base + one.value, *relative,
        one.value, one.low, one.high, one.p_value, adjusted,
    )  # fmt: skip
    return dict(zip(_NUMBERS, values, strict=True))


def _show(row: Any, level: float) -> str:
    if not np.isfinite(row.relative):
        return "no common seed" if not row.seeds else f"{row.difference:+.3f} from 0"
    star = "*" if row.p_holm < level else ""
    return f"{row.relative:+.1f} %{star} [{row.relative_low:+.1f}, {row.relative_high:+.1f}]"
