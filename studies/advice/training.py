"""When to label more, and when to go on from frozen features to training the backbone."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from probes.statistics.configurations import TRAINING, Configuration
from probes.statistics.learning_curve import fit_curve, gather_curves
from probes.statistics.significance import Comparison, compare_lines
from studies.advice.ablations import VERDICTS, lines_like
from studies.advice.evidence import Evidence
from studies.advice.outcome import Advice

MODES = {"lora": "LoRA", "full": "Full tuning", "scratch": "Training from scratch"}
"""Mode of a training -> how it is called; others by their own name."""


def last_rise(evidence: Evidence, base: Configuration) -> Comparison | None:
    """The largest label fraction against the one below it; None where no other was measured."""
    below = [line for line in lines_like(evidence, base, "fraction") if line.first.fraction < base.first.fraction]
    return compare_lines(max(below, key=lambda line: line.first.fraction), base) if below else None


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
    for lines in gather_curves([base, *lines_like(evidence, base, "fraction")]):
        curve = fit_curve(lines)
        value, low, high = (float(ends[0]) for ends in curve.predict(2 * curve.labels[-1:]))
        text = f" Of twice the labels the fitted curve expects {value:.3f} [{low:.3f}, {high:.3f}], extrapolated."
        return text, tuple(map(str, lines))
    return "", ()


def advise_on_training(evidence: Evidence, base: Configuration, rise: Comparison | None) -> Iterator[Advice]:
    """Whether trained backbones do better than frozen ones, and what follows; arguments as in `advise_on_labels`."""
    trained = [line for line in evidence.lines if line.trained and line.first.fraction == base.first.fraction]
    compared = [found for line in trained if (found := compare_lines(_frozen(evidence, base, line), line))]
    for found in compared:
        yield _tell(found)
    yield from _tell_lora(trained)
    yield _conclude(evidence, base, compared, rise)


def _frozen(evidence: Evidence, base: Configuration, trained: Configuration) -> Configuration:
    """The head on frozen features of the same backbone and variant; where there is none, the base."""
    same = lines_like(evidence, base, "backbone", "variant", "pooling", "key")
    one = trained.first
    alike = [line for line in same if (line.first.backbone, line.first.variant) == (one.backbone, one.variant)]
    return max(alike, key=lambda line: line.mean) if alike and not _is_like(base, trained) else base


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


def _tell_lora(trained: list[Configuration]) -> Iterator[Advice]:
    """LoRA against full tuning of the same backbone on the same images."""
    for full in (line for line in trained if line.first.head == f"{TRAINING}full"):
        for lora in (line for line in trained if line.first.head == f"{TRAINING}lora" and _is_like(full, line)):
            found = compare_lines(full, lora)
            if found:
                told = (
                    "falls short of" if found.verdict < 0 else "cannot be told from" if not found.verdict else "beats"
                )
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
        return Advice("next step", text, rows, "" if compared else command)
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


def _mode(line: Configuration) -> str:
    mode = line.first.head.removeprefix(TRAINING)
    return MODES.get(mode, f"Training by {mode}")
