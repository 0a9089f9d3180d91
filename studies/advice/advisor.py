"""All advice on one dataset, from what its store holds; nothing is fitted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from featurestore.datasets import open_dataset
from featurestore.errors import SkyprobeError
from probes.statistics.family import Family
from studies.advice.ablations import advise_on_ablations
from studies.advice.advice import Advice, Advised
from studies.advice.choice import advise_on_backbone, backbone_configurations
from studies.advice.evidence import Evidence, gather_evidence
from studies.advice.family import find_base, judge_together
from studies.advice.objects import ObjectSizes, advise_on_size, measure_objects
from studies.advice.training import advise_on_labels, advise_on_training, last_rise
from studies.sources import refresh

if TYPE_CHECKING:
    from featurestore.reporter import Reporter
    from featurestore.store import FeatureStore


def advise(store: FeatureStore, data: str, reporter: Reporter, scheme: str | None = None) -> Advised:
    """The study's best practice, as far as it was measured on this dataset.

    Args:
        store: Where features and runs are.
        data: The dataset as the user calls it: a path or shortcut, or its name in the store.
        reporter: See `studies.sources.refresh`.
        scheme: Label scheme; None: the dataset's default.

    Raises:
        MissingFeaturesError: The store does not know the dataset.
        UnknownNameError, LabelMismatchError: See `SampleTable.scheme`.
    """
    name = refresh(store, data, reporter)
    table = store.dataset(name)
    scheme = table.scheme(scheme)
    evidence = gather_evidence(store, data, table, scheme)
    objects = _measure(data, table.source) if table.boxes is not None else None
    return Advised(name, scheme, tuple(draw(evidence, objects)))


def draw(evidence: Evidence, objects: ObjectSizes | None) -> Iterator[Advice]:
    """All advice from what was measured.

    Args:
        evidence: Runs and features.
        objects: Sizes of the objects; None where they are not known.
    """
    yield from advise_on_size(evidence, objects)
    yield from (Advice("test rows", text) for text in evidence.omissions)
    base = find_base(evidence)
    if base is None:
        text = "No linear head on a single backbone was measured."
        yield Advice("backbone", text, (), evidence.first_command())
        return
    family = judge_together(evidence)
    yield Advice("comparisons", _tell_family(family))
    yield from advise_on_backbone(evidence, backbone_configurations(evidence), family)
    yield from advise_on_ablations(evidence, base, objects is not None, family)
    rise = last_rise(evidence, base, family)
    yield from advise_on_labels(evidence, base, rise)
    yield from advise_on_training(evidence, base, rise, family)


def _tell_family(family: Family) -> str:
    return (
        f"{len(family)} comparisons of ranking, ablations and advice are judged together: a difference is told where "
        f"its p-value is below {1 - family.confidence:.2g} after Holm's correction; intervals are for each by itself."
    )


def _measure(*places: str) -> ObjectSizes | None:
    """Sizes of the objects in the first of some places that has the images; advice is possible without."""
    for place in places:
        try:
            return measure_objects(open_dataset(place))
        except SkyprobeError:
            continue
    return None
