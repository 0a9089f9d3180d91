"""Comparison of runs: ranking, ablations and learning curves, for the command line and for reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from featurestore.errors import ProbeError, UsageError
from featurestore.files import write_atomically
from featurestore.registry import unknown_name
from featurestore.store.layout.names import escape
from probes.results import tables
from probes.results.run import COMPARED, Run, to_sentence, write_frame
from probes.results.scores import Metric
from probes.results.tables import Table
from probes.statistics.ablations import ablation_frame, ablation_table, measure_ablations
from probes.statistics.configurations import Configuration, gather_configurations
from probes.statistics.feature_info import FeatureInfo
from probes.statistics.learning_curve import (
    LearningCurve,
    curve_frame,
    curve_table,
    fit_curves,
    gather_curves,
    tell_needs,
)
from probes.statistics.ranking import rank, ranking_table
from probes.statistics.significance import METRICS
from studies.advice.evidence import Evidence, gather_evidence
from studies.advice.family import at_fraction, judge_together
from studies.result import ComparisonResult
from studies.sources import refresh

if TYPE_CHECKING:
    from featurestore.reporter import Reporter
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore


@dataclass
class Findings:
    """Tables of a comparison, as they are shown and in full.

    Attributes:
        tables: ``ranking``, ``ablations``, ``learning-curves`` -> what is shown; only those that have rows.
        frames: The same names -> all columns.
        curves: The fitted learning curves.
        remarks: How many labels the configurations need for a score, where one was asked for.
    """

    tables: dict[str, Table] = field(default_factory=dict)
    frames: dict[str, pd.DataFrame] = field(default_factory=dict)
    curves: list[LearningCurve] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def find_differences(
    configurations: Sequence[Configuration],
    infos: Sequence[FeatureInfo] = (),
    metric: Metric = "f1",
    *,
    fraction: int | None = None,
    against: str | None = None,
    target: float | None = None,
) -> Findings:
    """Everything that can be said of the differences between configurations of one test set.

    All are judged as one family, together with those of the advice (`studies.advice.family`).

    Args:
        configurations: At least one.
        infos: What is known of the features, for ablations that change the preprocessing or the size of a model.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
        fraction: Percent of the labels at which configurations are ranked; None: the largest.
        against: Words that name the reference of the ranking, see `find_configuration`; None: the best.
        target: A score; None: do not ask how many labels it needs.

    Raises:
        UsageError: No configuration has this fraction, or none or several are named by `against`.
        UnknownNameError: An unknown metric.
    """
    if metric not in METRICS:
        raise unknown_name("metric", metric, METRICS)
    chosen = at_fraction(configurations, fraction)
    found = Findings()
    reference = find_configuration(chosen, against) if against else None
    evidence = Evidence("", chosen[0].first.scheme, tuple(configurations), tuple(infos))
    family = judge_together(evidence, metric, fraction=fraction, against=reference)
    ranking = rank(chosen, metric, reference, family)
    found.frames["ranking"], found.tables["ranking"] = ranking, ranking_table(ranking)
    if ablations := measure_ablations(chosen, infos, metric, family):
        frame = ablation_frame(ablations)
        found.frames["ablations"], found.tables["ablations"] = frame, ablation_table(frame)
    found.curves = curves = fit_curves(gather_curves(configurations), metric)
    if curves:
        found.frames["learning-curves"] = curve_frame(curves, target)
        found.tables["learning-curves"] = curve_table(curves, target)
        if target is not None:
            found.remarks += tell_needs(curves, target)
    elif target is not None:
        found.remarks.append(
            f"No configuration was measured at enough label fractions to say how many labels {target:g} needs: "
            "probe --fractions 10,30,50,100."
        )
    return _tell_split(found, configurations)


def _tell_split(found: Findings, configurations: Sequence[Configuration]) -> Findings:
    """The same with the split of the runs in every caption and in a column of every frame."""
    split = max(run.split for one in configurations for run in one.runs)  # empty where an older version cached it
    if split:
        told = to_sentence(split)
        found.tables = {name: replace(one, caption=f"{one.caption} {told}") for name, one in found.tables.items()}
        found.frames = {name: frame.assign(split=split) for name, frame in found.frames.items()}
    return found


def find_configuration(configurations: Sequence[Configuration], words: str) -> Configuration:
    """The one configuration that has all of some values, given with commas: ``dinov2-s,linear``.

    Raises:
        UsageError: None has them, or several have.
    """
    wanted = {word.strip() for word in words.split(",")}
    found = [one for one in configurations if wanted <= {str(getattr(one.first, name)) for name in COMPARED}]
    if len(found) == 1:
        return found[0]
    listed = "\n".join(f"  {one.name}" for one in found or configurations)
    raise UsageError(
        f"{len(found) or 'no'} configurations are named by {words!r}",
        where="against",
        hint=f"Name one of these by words that it alone has, with commas between:\n{listed}",
    )


def compare_stored(
    store: FeatureStore,
    data: str,
    reporter: Reporter,
    scheme: str | None = None,
    output: Path | None = None,
    **options: Any,
) -> ComparisonResult:
    """Compare all runs that a store holds on a dataset.

    Args:
        store: Where features and runs are.
        data: The dataset as the user calls it: a path or shortcut, or its name in the store.
        reporter: See `studies.sources.refresh`.
        scheme: Label scheme; None: the dataset's default.
        output: Folder for the tables as CSV and LaTeX; None: none are written.
        **options: See `find_differences`.

    Raises:
        ProbeError: There are no runs.
        SkyprobeError: See `find_differences`, or the store does not know the dataset.
    """
    table = store.dataset(refresh(store, data, reporter))
    scheme = table.scheme(scheme)
    evidence = gather_evidence(store, data, table, scheme)
    if not evidence.configurations:
        hint = f"{'Fit some heads' if evidence.infos else 'Embed the images'}: {evidence.first_command()}"
        raise ProbeError("there are no runs to compare", where=table.name, hint=hint)
    found = find_differences(evidence.configurations, evidence.infos, **options)
    found.remarks += evidence.omissions
    return ComparisonResult(
        dataset=table.name,
        scheme=scheme,
        tables=tuple(map(tables.to_text, found.tables.values())),
        remarks=tuple(found.remarks),
        rows={name: json.loads(frame.to_json(orient="records")) for name, frame in found.frames.items()},
        files=write_findings(found, output) if output else {},
    )


def significance_tables(
    runs: Sequence[Run], samples: Iterable[SampleTable] = (), infos: Sequence[FeatureInfo] = (), metric: Metric = "f1"
) -> Findings:
    """`find_differences` for all datasets and label schemes of a report; names begin with both if there are several.

    A dataset with a single configuration has no differences, and no tables.

    Args:
        runs: Runs on any datasets.
        samples: Tables of these datasets, for groups of rows that are resampled together.
        infos: What is known of the features.
        metric: ``f1``, ``precision``, ``recall`` (macro means) or ``accuracy``.
    """
    known = {table.name: table for table in samples}
    pairs = sorted({(run.dataset, run.scheme) for run in runs})
    merged = Findings()
    for dataset, scheme in pairs:
        own = [run for run in runs if (run.dataset, run.scheme) == (dataset, scheme)]
        configurations, _ = gather_configurations(own, known.get(dataset))
        if len(configurations) < 2:
            continue
        found = find_differences(configurations, infos, metric)
        prefix = f"{dataset}-{scheme}-" if len(pairs) > 1 else ""
        merged.tables |= {f"{prefix}{name}": table for name, table in found.tables.items()}
        merged.frames |= {f"{prefix}{name}": frame for name, frame in found.frames.items()}
        merged.curves += found.curves
    return merged


def write_findings(found: Findings, folder: Path) -> dict[str, Path]:
    """Write each table as CSV (all columns) and LaTeX (as shown); file name -> path.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    return dict(_write(found, folder))


def _write(found: Findings, folder: Path) -> Iterator[tuple[str, Path]]:
    for name, table in found.tables.items():
        stem, write = escape(name), partial(Path.write_text, data=tables.to_latex(table), encoding="utf-8")
        yield f"{stem}.csv", write_frame(found.frames[name], folder / f"{stem}.csv")
        yield f"{stem}.tex", write_atomically(folder / f"{stem}.tex", write)
