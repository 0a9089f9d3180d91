"""All pairs that are judged on one test set: the ranking, the ablations and the advice give one verdict on each."""

from __future__ import annotations

from collections.abc import Sequence

from featurestore.errors import UsageError
from probes.results.scores import Metric
from probes.statistics.ablations import ablation_pairs, name_ablation
from probes.statistics.configurations import Configuration
from probes.statistics.family import Family, Pair
from probes.statistics.ranking import ranking_pairs
from probes.sweep.combination import split_names
from studies.advice.choice import backbone_configurations
from studies.advice.evidence import Evidence
from studies.advice.training import label_pairs, training_pairs


def judge_together(
    evidence: Evidence, metric: Metric = "f1", *, fraction: int | None = None, against: Configuration | None = None
) -> Family:
    """The family of every pair that a table or a piece of advice shows.

    Args:
        evidence: At least one configuration.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        fraction: Percent of the labels at which configurations are ranked; None: the largest.
        against: The reference of the ranking; None: the best.

    Raises:
        UsageError: No configuration has this fraction.
    """
    ranked = at_fraction(evidence.configurations, fraction)
    pairs = ranking_pairs(ranked, metric, against)
    pairs += [pair for _, pair in ablation_pairs(ranked, evidence.infos)]
    return Family(ranked, [*pairs, *_advised_pairs(evidence)], metric)


def at_fraction(configurations: Sequence[Configuration], fraction: int | None = None) -> list[Configuration]:
    """Configurations with this percentage of the labels; None: the largest.

    Raises:
        UsageError: There are none.
    """
    measured = sorted({one.first.fraction for one in configurations})
    wanted = measured[-1] if fraction is None else fraction
    if wanted not in measured:
        raise UsageError(
            f"no run has {wanted} % of the labels", where="fraction", hint=f"Measured: {', '.join(map(str, measured))}."
        )
    return [one for one in configurations if one.first.fraction == wanted]


def find_base(evidence: Evidence) -> Configuration | None:
    """The linear head on the best single backbone, from which advice begins; None where none was measured."""
    ordered = backbone_configurations(evidence)
    return next((one for one in ordered if len(split_names(one.first.backbone)) == 1), None)


def _advised_pairs(evidence: Evidence) -> list[Pair]:
    ordered, base = backbone_configurations(evidence), find_base(evidence)
    if base is None:
        return []
    changed = [one for one in evidence.configurations if name_ablation(base, one, evidence.infos)]
    return [
        *((ordered[0], other) for other in ordered[1:]),
        *((base, one) for one in changed),
        *label_pairs(evidence, base),
        *training_pairs(evidence, base),
    ]
