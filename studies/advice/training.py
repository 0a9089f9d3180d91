"""When to label more, and when to go on from frozen features to training the backbone."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from probes.statistics.configurations import TRAINING, Configuration
from probes.statistics.family import Family, Pair
from probes.statistics.learning_curve import fit_curve, gather_curves
from probes.statistics.significance import Comparison
from studies.advice.ablations import VERDICTS, find_like
from studies.advice.advice import Advice
from studies.advice.evidence import Evidence

MODES = {"lora": "LoRA", "full": "Full tuning", "scratch": "Training from scratch"}
"""Mode of a training -> how it is called; others by their own name."""


def label_pairs(evidence: Evidence, base: Configuration) -> list[Pair]:
    """The largest label fraction against the one below it; none where no other was measured."""
    below = [one for one in find_like(evidence, base, "fraction") if one.first.fraction < base.first.fraction]
    return [(max(below, key=lambda one: one.first.fraction), base)] if below else []


def last_rise(evidence: Evidence, base: Configuration, family: Family) -> Comparison | None:
    """The pair of `label_pairs`, judged; None where there is none, or no common seed."""
    return next((family.compare(*pair) for pair in label_pairs(evidence, base)), None)


def training_pairs(evidence: Evidence, base: Configuration) -> list[Pair]:
    """Each training against frozen features, and LoRA against full tuning of the same backbone on the same images."""
    trained = _find_trained(evidence, base)
    return [*((_frozen(evidence, base, one), one) for one in trained), *_lora_pairs(trained)]


def advise_on_labels(evidence: Evidence, base: Configuration, rise: Comparison | None) -> Iterator[Advice]:
    """Whether more labels would help.

    Args:
        evidence: What was measured.
        base: The linear head on the best backbone.
        rise: See `last_rise`.
    """
    topic, top = "labels", base.first.fraction
    fractions = f"{top},100" if top < 100 else "50,100"
    command = evidence.probe_command(base, base.first.head, "--fractions", fractions)
    if top < 100:
        text = f"Whether all labels do better than {top} % of them was not measured."
        yield Advice(topic, text, (str(base),), command)
    elif rise is None:
        yield Advice(topic, "Whether more labels would help was not measured.", (str(base),), command)
    else:
        steps = f"from {rise.first.first.fraction} % to {top} % of the labels macro-F1 changes by {rise}"
        told = "still rises: more labels would help" if rise.verdict > 0 else "no longer rises measurably"
        text = f"The learning curve of {base.first.backbone} {told}; {steps}."
        expected, rows = _expect_of_more(evidence, base)
        yield Advice(topic, text + expected, rows or rise.rows)


def _expect_of_more(evidence: Evidence, base: Configuration) -> tuple[str, tuple[str, ...]]:
    """What a fitted learning curve expects of twice the labels, and its rows; nothing where too few were measured."""
    for steps in gather_curves([base, *find_like(evidence, base, "fraction")]):
        curve = fit_curve(steps)
        value, low, high = (float(ends[0]) for ends in curve.predict(2 * curve.labels[-1:]))
        text = f" Of twice the labels the fitted curve expects {value:.3f} [{low:.3f}, {high:.3f}], extrapolated."
        return text, tuple(map(str, steps))
    return "", ()


def advise_on_training(
    evidence: Evidence, base: Configuration, rise: Comparison | None, family: Family
) -> Iterator[Advice]:
    """Whether trained backbones do better than frozen ones, and what follows.

    Args:
        evidence: What was measured.
        base: The linear head on the best backbone.
        rise: See `last_rise`.
        family: Comparisons that are judged together, those of `training_pairs` among them.
    """
    trained = _find_trained(evidence, base)
    compared = [found for one in trained if (found := family.compare(_frozen(evidence, base, one), one))]
    for found in compared:
        yield _tell(found)
    yield from _tell_lora(trained, family)
    yield _conclude(evidence, base, compared, rise)


def _find_trained(evidence: Evidence, base: Configuration) -> list[Configuration]:
    return [one for one in evidence.configurations if one.trained and one.first.fraction == base.first.fraction]


def _frozen(evidence: Evidence, base: Configuration, trained: Configuration) -> Configuration:
    """The head on frozen features of the same backbone and variant; where there is none, the base."""
    same = find_like(evidence, base, "backbone", "variant", "pooling", "key")
    one = trained.first
    alike = [found for found in same if (found.first.backbone, found.first.variant) == (one.backbone, one.variant)]
    return max(alike, key=lambda found: found.mean) if alike and not _is_like(base, trained) else base


def _is_like(base: Configuration, trained: Configuration) -> bool:
    return (base.first.backbone, base.first.variant) == (trained.first.backbone, trained.first.variant)


def _tell(found: Comparison) -> Advice:
    one, frozen = found.second.first, found.first.first
    seconds = fmean(run.seconds for run in found.second.runs)
    text = (
        f"{_mode(found.second)} of {one.backbone} {VERDICTS[found.verdict]}: macro-F1 changes by {found} against the "
        f"head {frozen.head} on frozen {frozen.backbone}, {frozen.variant}; a training took {seconds:,.0f} s."
    )
    return Advice("tuning", text, found.rows)


def _lora_pairs(trained: list[Configuration]) -> list[Pair]:
    full, lora = ([one for one in trained if one.first.head == f"{TRAINING}{mode}"] for mode in ("full", "lora"))
    return [(one, other) for one in full for other in lora if _is_like(one, other)]


def _tell_lora(trained: list[Configuration], family: Family) -> Iterator[Advice]:
    words = {-1: "falls short of", 0: "cannot be told from", 1: "beats"}
    for full, lora in _lora_pairs(trained):
        if found := family.compare(full, lora):
            told = words[found.verdict]
            text = f"LoRA of {lora.first.backbone} {told} full tuning: macro-F1 changes by {found}."
            yield Advice("tuning", text, found.rows)


def _conclude(evidence: Evidence, base: Configuration, compared: list[Comparison], rise: Comparison | None) -> Advice:
    """The next step."""
    command = evidence.command("finetune", base.first.backbone, "--mode", "lora", "--labels", evidence.scheme,
                               variants=[base.first.variant])  # fmt: skip
    rows = (*(rise.rows if rise else (str(base),)), *(row for found in compared for row in found.rows[1:]))
    better = [found for found in compared if found.verdict > 0]
    if rise and rise.verdict > 0:
        text = "The next step is to label more: the learning curve has not ended."
        text += " Training the backbone pays already." if better else ""
        return Advice("next step", text, rows)
    if not compared:
        text = "The next step is to train the backbone: whether LoRA or full tuning pays was not measured."
        return Advice("next step", text, rows, command)
    if better:
        best = max(better, key=lambda found: found.second.mean)
        told = "labels alone no longer help" if rise else "whether labels would help too was not measured"
        text = (
            f"The next step is {_mode(best.second)} of {best.second.first.backbone}: it beats frozen features; {told}."
        )
        return Advice("next step", text, rows)
    return Advice("next step", "Stay with frozen features: no training that was measured does better.", rows)


def _mode(trained: Configuration) -> str:
    mode = trained.first.head.removeprefix(TRAINING)
    return MODES.get(mode, f"Training by {mode}")
