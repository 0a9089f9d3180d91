"""Which backbone is best within the interval, and what it costs; and where all other advice starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from probes.heads.base import PROTOCOLS
from probes.statistics.configurations import Configuration
from probes.statistics.family import Family
from probes.statistics.significance import Comparison
from studies.advice.advice import Advice
from studies.advice.evidence import EXAMPLES, Evidence

HEAD = "linear"
"""The head that backbones and preprocessing are compared by."""


def backbone_configurations(evidence: Evidence) -> list[Configuration]:
    """The linear head on every backbone with all that is the same for most of them, the best first.

    Of several protocols the first of `probes.heads.base.PROTOCOLS` counts, of label fractions the largest, of
    variants and settings the one with the most backbones, and of equals the one that has the best; of one
    backbone's poolings and keys the best.
    """
    linear = [one for one in evidence.find(head=HEAD) if one.first.protocol in PROTOCOLS]
    if not linear:
        return []
    protocol = min((one.first.protocol for one in linear), key=PROTOCOLS.index)
    fraction = max(one.first.fraction for one in linear if one.first.protocol == protocol)
    alike = [one for one in linear if (one.first.protocol, one.first.fraction) == (protocol, fraction)]
    groups = [_best_of_each(list(part)) for _, part in groupby(sorted(alike, key=_setting), key=_setting)]
    return max(groups, key=lambda group: (len(group), group[0].mean))


def advise_on_backbone(evidence: Evidence, ordered: Sequence[Configuration], family: Family) -> Iterator[Advice]:
    """The best backbone, those that cannot be told from it, and the smallest of them.

    Args:
        evidence: What was measured.
        ordered: See `backbone_configurations`; at least one.
        family: Comparisons that are judged together, the best with each other among them.
    """
    best = ordered[0]
    where = f"{best.first.variant} with {best.first.fraction} % of the labels"
    if len(ordered) == 1:
        text = f"{best.first.backbone} is the only backbone measured on {where}: it was compared with none."
        other = next(name for name in EXAMPLES if name != best.first.backbone)
        command = evidence.measure_command(best, other, best.first.variant)
        yield Advice("backbone", text, (str(best),), command)
        return
    compared = [found for other in ordered[1:] if (found := family.compare(best, other))]
    ties = [found for found in compared if found.verdict >= 0]
    name = f"{best.first.backbone}{_tell_cost(evidence, best)}"
    text = f"{name} is best of {len(ordered)} backbones on {where}, chosen by the test rows. "
    text += _tell_ties(evidence, best, ties) if ties else "It is better than each other one that shares seeds with it."
    yield Advice("backbone", text, tuple(map(str, ordered)))


def _tell_ties(evidence: Evidence, best: Configuration, ties: Sequence[Comparison]) -> str:
    listed = "; ".join(f"{one.second.first.backbone}{_tell_cost(evidence, one.second)} {one}" for one in ties)
    tied = [best.first.backbone, *(one.second.first.backbone for one in ties)]
    sizes = {name: evidence.params(name) for name in tied}
    smallest = f" The smallest of these is {min(tied, key=sizes.__getitem__)}." if all(sizes.values()) else ""
    return f"It cannot be told from {listed}.{smallest}"


def _tell_cost(evidence: Evidence, one: Configuration) -> str:
    params = evidence.params(one.first.backbone)
    return f" ({params:g} M parameters, {one.first.n_features:,} features)" if params else ""


def _setting(one: Configuration) -> tuple[str, str]:
    return one.first.variant, one.settings


def _best_of_each(configurations: list[Configuration]) -> list[Configuration]:
    """The best configuration of each backbone, the best of all first."""
    ranked = sorted(configurations, key=lambda one: (-one.mean, one.first.backbone, one.first.key))
    return list({one.first.backbone: one for one in reversed(ranked)}.values())[::-1]
