"""What would pay: another head, preprocessing or size of the model, from paired differences that were measured."""

from __future__ import annotations

from collections.abc import Iterator

from featurestore.backbones.catalogue import find_spec, list_names
from probes.statistics.ablations import BIGGER, FIELDS, HEADS, name_ablation
from probes.statistics.configurations import Configuration
from probes.statistics.family import Family
from probes.statistics.feature_info import same_family
from probes.statistics.significance import Comparison
from studies.advice.advice import Advice
from studies.advice.choice import HEAD
from studies.advice.evidence import Evidence

WORDS = {
    "MLP": "an MLP",
    "input size": "another input size",
    "crop": "a crop",
    "stretch": "another stretch",
    BIGGER: "a bigger model",
}
"""Ablation -> how a sentence calls it; others by their own name."""

ADVISED = ("whitened", "mlp")
"""Heads that are ablations by themselves."""

TRIALS = {"input size": "full-480", "crop": "center-224", "stretch": "asinh-224"}
"""Ablation -> the variant to try first."""

BOX_CROP = "box-224"

VERDICTS = {1: "pays", 0: "makes no difference that can be told", -1: "does harm"}


def advise_on_ablations(evidence: Evidence, base: Configuration, boxed: bool, family: Family) -> Iterator[Advice]:
    """Advice on each ablation, measured or not.

    Args:
        evidence: What was measured.
        base: The linear head on the best backbone.
        boxed: Whether there are boxes to crop to.
        family: Comparisons that are judged together, those of the base among them.
    """
    measured: dict[str | None, list[Configuration]] = {}
    for one in evidence.configurations:
        measured.setdefault(name_ablation(base, one, evidence.infos), []).append(one)
    commands = {HEADS[head]: evidence.probe_command(base, f"{HEAD},{head}") for head in ADVISED}
    for name in FIELDS.values():
        trial = BOX_CROP if name == "crop" and boxed else TRIALS[name]
        commands[name] = evidence.measure_command(base, base.first.backbone, trial)
    commands[BIGGER] = _bigger_command(evidence, base)
    for name, command in commands.items():
        compared = [found for changed in measured.get(name, []) if (found := family.compare(base, changed))]
        if compared or command:
            yield from _tell_all(WORDS.get(name, name), base, compared, command)


def tell(ablation: str, found: Comparison) -> Advice:
    """One measured difference as advice."""
    one, other = found.first.first, found.second.first
    changes = [(getattr(one, name), getattr(other, name)) for name in ("backbone", "variant", "head")]
    changed = ", ".join(f"{new} instead of {old}" for old, new in changes if new != old)
    text = f"{changed} {VERDICTS[found.verdict]}: macro-F1 changes by {found}; all else is as in the first row."
    return Advice(ablation, text, found.rows)


def _tell_all(ablation: str, base: Configuration, found: list[Comparison], command: str) -> Iterator[Advice]:
    if not found:
        text = f"Whether {ablation} pays on {base.first.backbone} was not measured."
        yield Advice(ablation, text, (), command)
    for one in found:
        yield tell(ablation, one)


def find_like(evidence: Evidence, base: Configuration, *but: str) -> list[Configuration]:
    """Configurations that are like one, apart from some fields; their settings are the same."""
    names = {"backbone", "variant", "pooling", "key", "head", "protocol", "fraction"} - set(but)
    fields = {name: getattr(base.first, name) for name in names}
    return [one for one in evidence.find(**fields) if one is not base and one.settings == base.settings]


def _bigger_command(evidence: Evidence, base: Configuration) -> str:
    """The command that embeds by the next larger model of the family; empty where the catalogue has none."""
    family = [find_spec(name) for name in list_names() if same_family(base.first.backbone, name)]
    larger = [spec for spec in family if spec.params > evidence.params(base.first.backbone) > 0]
    if not larger:
        return ""
    following = min(larger, key=lambda spec: spec.params)
    return evidence.measure_command(base, following.name, base.first.variant)
