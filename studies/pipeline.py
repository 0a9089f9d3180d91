"""A study as a whole: from images to a report, or from stored features; trainings are shown beside the probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.errors import SkyprobeError
from featurestore.extraction.extract import ExtractionReport
from featurestore.reporter import Reporter
from probes.results.run import write_results
from probes.results.tables import to_text
from probes.sweep.combination import list_parts
from studies.result import Clock, StudyResult
from studies.stages import (
    choose_schemes,
    extract,
    format_tables,
    list_unreadable,
    load_features,
    probe,
    project,
)
from studies.trainings import Trainings, carry_out, plan_trainings

if TYPE_CHECKING:
    from featurestore.store import FeatureStore
    from featurestore.store.features import FeatureSet
    from probes.plotting import CaptionedFigure
    from probes.results.tables import Table
    from studies.images.gallery import Gallery
    from studies.study_file.spec import Study


def run_study(
    study: Study,
    store: FeatureStore,
    output: Path,
    reporter: Reporter,
    command: str,
) -> StudyResult:
    """Every stage, from images to report.

    Args:
        study: What to do.
        store: A store opened for writing.
        output: Folder for tables, figures and report; made if need be.
        reporter: Shows progress.
        command: The command that does this again, for the report.

    Raises:
        SkyprobeError: See the stages. Unreadable images raise nothing; the result lists them.
    """
    clock, trainings = Clock(), plan_trainings(study)
    with clock("extract"):
        extractions = extract(study, store, reporter)
    return _conclude(study, store, output, reporter, command, clock, extractions, trainings)


def report_study(
    study: Study,
    store: FeatureStore,
    output: Path,
    reporter: Reporter,
    command: str,
) -> StudyResult:
    """Every stage but extraction and training, from what is stored; arguments as in `run_study`."""
    return _conclude(study, store, output, reporter, command, Clock(), [], Trainings())


def _conclude(
    study: Study,
    store: FeatureStore,
    output: Path,
    reporter: Reporter,
    command: str,
    clock: Clock,
    extractions: list[ExtractionReport],
    trainings: Trainings,
) -> StudyResult:
    from probes.statistics.feature_info import describe_features
    from studies.compare import significance_tables, write_findings
    from studies.report.captioned_figures import fitted_figures
    from studies.report.contents import write_study_report

    features = load_features(study, store, reporter)
    schemes = _name_schemes(study, features)
    with clock("probe"):
        runs = probe(study, features, store, reporter)
    with clock("train"):
        trained = carry_out(trainings, store, schemes, output, reporter)
    runs += trained.runs
    with clock("project"):
        projections = project(features, store, reporter) if study.figures.projection else []
    with clock("report"):
        galleries = _draw_samples(study, features, store, reporter) if study.figures.samples else []
        told_tables, told_figures = _diagnose(study, features, store, reporter)
        found = significance_tables(runs, [matrix.table for matrix in features], list(map(describe_features, features)))
        files = write_results(runs, output) | write_findings(found, output / "tables") | dict(trained.files)
        files["report"] = write_study_report(
            output,
            title=study.title,
            runs=runs,
            features=features,
            projections=projections,
            galleries=galleries,
            tables=[*found.tables.values(), *trained.tables, *told_tables],
            captioned_figures=[
                *_show_attention(study, list(schemes), store, reporter),
                *fitted_figures(found.curves),
                *trained.captioned_figures,
                *told_figures,
            ],
            extractions=extractions,
            scheme=study.probe.scheme,
            commands=[command],
        )
    return StudyResult(
        tables=(*format_tables(runs), *map(to_text, trained.tables)),
        files=files,
        extractions=tuple(extractions),
        seconds=clock.seconds,
        unreadable=list_unreadable(features) | dict(trained.unreadable),
    )


def _name_schemes(study: Study, features: Sequence[FeatureSet]) -> dict[str, tuple[str, ...]]:
    """Dataset -> names of the label schemes that it is probed under."""
    chosen = choose_schemes(study, features)
    tables = {matrix.table.name: matrix.table for matrix in features}
    return {name: tuple(map(table.scheme, chosen[name])) for name, table in tables.items()}


def _draw_samples(
    study: Study, features: Sequence[FeatureSet], store: FeatureStore, reporter: Reporter
) -> list[Gallery]:
    """Random images of each dataset; where they can no longer be read, the user is told."""
    from studies.images.gallery import cached_gallery

    found = []
    for name in dict.fromkeys(matrix.table.name for matrix in features):
        known = store.dataset(name).schemes  # one of a mapping file is not among them
        scheme = study.probe.scheme if study.probe.scheme in known else None
        try:
            found.append(cached_gallery(store, name, study.variants[0], scheme=scheme))
        except SkyprobeError as error:
            reporter.notice(f"No images of {name} are shown: {error}")
    return found


def _diagnose(
    study: Study, features: Sequence[FeatureSet], store: FeatureStore, reporter: Reporter
) -> tuple[list[Table], list[CaptionedFigure]]:
    """What the features show without labels, where the study wants it."""
    if not study.figures.diagnostics:
        return [], []
    from studies.diagnosis import diagnose_datasets, open_images, show
    from studies.report.diagnostics import tables

    images = open_images(features, reporter)
    scheme = study.probe.scheme if len(study.probe.labels) < 2 else None
    found = diagnose_datasets(features, store, reporter, images, scheme=scheme)
    return [table for one in found for table in tables(one)], [drawn for one in found for drawn in show(one, images)]


def _show_attention(
    study: Study, datasets: Sequence[str], store: FeatureStore, reporter: Reporter
) -> list[CaptionedFigure]:
    """Where the transformers of a study look, on its first variant, where the study wants it."""
    if not study.figures.attention:
        return []
    from studies.images.attention import gather_attention
    from studies.report.attention import attention_figures

    weights, trust = study.extract.weights, study.extract.trust_remote_code
    backbones, variant = list_parts(study.backbones), study.variants[0]
    return attention_figures(
        gather_attention(store, datasets, backbones, variant, reporter, weights=weights, trust_remote_code=trust)
    )
