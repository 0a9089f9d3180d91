"""What would pay: another head, preprocessing or size of the model, from paired differences that were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from featurestore.backbones.catalogue import find_spec, list_names
from probes.advice.choice import HEAD
from probes.advice.evidence import Comparison, Evidence, Line, compare_lines, same_family
from probes.advice.outcome import Advice

HEADS = {"whitening": "whitened", "an MLP": "mlp"}
"""Technique -> the head that has it."""

FIELDS = {"another input size": "resize", "a crop": "crop", "another stretch": "stretch"}
"""Technique -> the field of the preprocessing that it changes."""

TRIALS = {"another input size": "full-480", "a crop": "center-224", "another stretch": "asinh-224"}
"""Technique -> the variant to try first."""

BOX_CROP = "box-224"

VERDICTS = {1: "pays", 0: "makes no difference that can be told", -1: "does harm"}


def advise_on_techniques(evidence: Evidence, base: Line, boxed: bool) -> Iterator[Advice]:
    """Advice on each technique, measured or not.

    Args:
        evidence: What was measured.
        base: The linear head on the best backbone.
        boxed: Whether there are boxes to crop to.
    """
    for technique, head in HEADS.items():
        lines = [line for line in lines_like(evidence, base, "head") if line.first.head == head]
        yield from _judge(technique, base, lines, evidence.probe_command(base, f"{HEAD},{head}"))
    for technique, field in FIELDS.items():
        trial = BOX_CROP if field == "crop" and boxed else TRIALS[technique]
        command = evidence.measure_command(base, base.first.backbone, trial)
        yield from _judge(technique, base, _changed(evidence, base, field), command)
    bigger, command = _bigger(evidence, base), _bigger_command(evidence, base)
    if bigger or command:
        yield from _judge("a bigger model", base, bigger, command)


def tell(technique: str, found: Comparison) -> Advice:
    """One measured difference as advice."""
    one, other = found.first.first, found.second.first
    changes = [(getattr(one, name), getattr(other, name)) for name in ("backbone", "variant", "head")]
    changed = ", ".join(f"{new} instead of {old}" for old, new in changes if new != old)
    text = f"{changed} {VERDICTS[found.verdict]}: macro-F1 changes by {found}; all else is as in the first row."
    return Advice(technique, text, found.rows)


def _judge(technique: str, base: Line, lines: list[Line], command: str) -> Iterator[Advice]:
    found = [one for line in lines if (one := compare_lines(base, line))]
    if not found:
        text = f"Whether {technique} pays on {base.first.backbone} was not measured."
        yield Advice(technique, text, (), command)
    for one in found:
        yield tell(technique, one)


def lines_like(evidence: Evidence, base: Line, *but: str) -> list[Line]:
    """Lines that are like one, apart from some fields; their settings are the same."""
    names = {"backbone", "variant", "pooling", "key", "head", "protocol", "fraction"} - set(but)
    fields = {name: getattr(base.first, name) for name in names}
    return [line for line in evidence.find(**fields) if line is not base and line.settings == base.settings]


def _changed(evidence: Evidence, base: Line, field: str) -> list[Line]:
    """Lines of the same backbone and head on images that were prepared otherwise in this field alone."""
    prepared = {source.key: source.preprocessing for source in evidence.sources}
    mine = prepared.get(base.first.key)
    lines = lines_like(evidence, base, "variant", "key")
    return [line for line in lines if mine and _differ_in(mine, prepared.get(line.first.key, {}), field)]


def _differ_in(first: Mapping[str, Any], second: Mapping[str, Any], field: str) -> bool:
    """Whether two preprocessings differ in one field; a resize may go with another interpolation."""
    free = {field, "interpolation"} if field == "resize" else {field}
    alike = {name for name in first.keys() | second.keys() if first.get(name) == second.get(name)}
    return first.get(field) != second.get(field) and first.keys() | second.keys() <= alike | free


def _bigger(evidence: Evidence, base: Line) -> list[Line]:
    size = evidence.params(base.first.backbone)
    lines = lines_like(evidence, base, "backbone", "key")
    return [
        line
        for line in lines
        if same_family(base.first.backbone, line.first.backbone) and evidence.params(line.first.backbone) > size > 0
    ]


def _bigger_command(evidence: Evidence, base: Line) -> str:
    """The command that embeds by the next larger model of the family; empty where the catalogue has none."""
    family = [find_spec(name) for name in list_names() if same_family(base.first.backbone, name)]
    larger = [spec for spec in family if spec.params > evidence.params(base.first.backbone) > 0]
    if not larger:
        return ""
    following = min(larger, key=lambda spec: spec.params)
    return evidence.measure_command(base, following.name, base.first.variant)
