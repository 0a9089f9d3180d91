"""The stages of a study: extract, load, probe, project, report. Each can be run by itself, and all are idempotent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from featurestore.backbones.weights import parse_weights
from featurestore.datasets import open_dataset
from featurestore.errors import StoreWriteError
from featurestore.extraction.audit import Audit, audit
from featurestore.extraction.extract import ExtractionReport, extract_features
from featurestore.files import write_atomically
from featurestore.label_mapping import choose_labels, describe_labels, fits_labels, scheme_name
from featurestore.preprocessing import parse_variant
from featurestore.registry import unknown_name
from featurestore.reporter import Reporter
from featurestore.sky_groups import choose_groups
from featurestore.store.query import find_features
from probes.projection import Projection, cached_projection
from probes.results.run import Run, format_table, summarise, write_results
from probes.sweep.combination import combine, list_parts, read_key, split_names
from probes.sweep.memory import available_memory, check_vectors, fits_memory, in_memory
from probes.sweep.splits import describe_split
from probes.sweep.sweep import cached_sweep
from studies.result import Clock, StudyResult
from studies.sources import refresh

if TYPE_CHECKING:
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore
    from featurestore.store.entry import FeatureEntry
    from featurestore.store.features import FeatureMatrix, FeatureSet
    from featurestore.store.stored_features import StoredFeatures
    from probes.heads.saved import SavedHead
    from studies.study_file.spec import Study


def extract(study: Study, store: FeatureStore, reporter: Reporter) -> list[ExtractionReport]:
    """Embed what the store lacks, dataset by dataset."""
    reports = []
    for text in study.datasets:
        dataset = open_dataset(text)
        reporter.notice(dataset.table.notice)
        progress = reporter.progress(f"extract {dataset.table.name}")
        reports.append(
            extract_features(dataset, list_parts(study.backbones), study.variants, store, study.extract, progress)
        )
    return reports


def load_features(study: Study, store: FeatureStore, reporter: Reporter) -> list[FeatureSet]:
    """Every stored feature matrix of the study, with labels and splits as the sources of its datasets have them now.

    Raises:
        MissingFeaturesError: Something was not extracted; the message gives the command.
        AmbiguousFeaturesError: Several keys match; the message lists them.
    """
    return [combine([stored.read() for stored in parts]) for parts in _select(study, store, reporter)]


def open_features(
    study: Study, store: FeatureStore, reporter: Reporter, available: Callable[[], int] = available_memory
) -> list[FeatureMatrix]:
    """Every feature matrix of the study: in memory, or in the store where there is no room for it.

    Args:
        study: What to open.
        store: Where it is.
        reporter: See `studies.sources.refresh`.
        available: Bytes of memory that are left; asked for each matrix.

    Raises:
        MissingFeaturesError, AmbiguousFeaturesError: See `load_features`.
    """
    return [
        combine([stored.read() for stored in parts]) if fits_memory(parts, available()) else _leave(parts)
        for parts in _select(study, store, reporter)
    ]


def _leave(parts: Sequence[StoredFeatures]) -> StoredFeatures:
    """Features that stay in the store; combined ones cannot."""
    if len(parts) > 1:
        in_memory(parts, "a combination of backbones needs")
    return parts[0]


def _select(study: Study, store: FeatureStore, reporter: Reporter) -> Iterator[list[StoredFeatures]]:
    """The features of a study, those of combined backbones together; no values are read."""
    chosen = {"precision": study.extract.precision} if study.extract.precision != "auto" else {}
    chosen |= {"weights": str(parse_weights(study.extract.weights))} if study.extract.weights else {}
    for text, dataset in [(text, refresh(store, text, reporter)) for text in study.datasets]:
        for backbone, variant in product(study.backbones, study.variants):
            name, pooling = parse_variant(variant)[0], study.probe.pooling
            entries = [store.select(dataset, name, part, pooling=pooling, **chosen) for part in split_names(backbone)]
            found = [entry.open(pooling) for entry in entries]
            check_vectors(*found)
            for entry in entries:
                _tell_changed_images(entry, pooling, reporter)
            yield [_choose(part, study, text) for part in found]


def _tell_changed_images(entry: FeatureEntry, pooling: str | None, reporter: Reporter) -> None:
    if changed := entry.count_changed(pooling):
        reporter.notice(
            f"{entry.dataset}: {changed:,} images changed since {entry.backbone} embedded them, and their stored "
            f"features are used. To embed them again, run: {entry.extract_command}"
        )


def _choose(features: StoredFeatures, study: Study, text: str) -> StoredFeatures:
    """The same features with the labels and the groups that the study asks for."""
    table, labels = features.table, study.probe.labels
    for one in labels:
        if len(labels) == 1 or fits_labels(features.table, one):
            table = choose_labels(table, one)
    return replace(features, table=choose_groups(table, text))


def choose_schemes(study: Study, features: Sequence[FeatureMatrix]) -> dict[str, tuple[str | None, ...]]:
    """The label schemes that each dataset of a study is probed under; None: its default one.

    Raises:
        UnknownNameError: Of several label schemes, one that no dataset has.
    """
    names = [name for name in map(scheme_name, study.probe.labels) if name]
    if len(names) < 2:
        return {matrix.table.name: (study.probe.scheme,) for matrix in features}
    known = {matrix.table.name: matrix.table.schemes for matrix in features}
    for name in names:
        if not any(name in schemes for schemes in known.values()):
            raise unknown_name("label scheme", name, sorted({each for schemes in known.values() for each in schemes}))
    return {dataset: tuple(name for name in names if name in schemes) or (None,) for dataset, schemes in known.items()}


def audit_features(store: FeatureStore, text: str, n_rows: int) -> list[Audit]:
    """Embed random rows of a dataset again, for everything that the store holds of it.

    Raises:
        MissingFeaturesError: It holds nothing.
        StoreError: See `featurestore.extraction.audit.audit`.
    """
    dataset = open_dataset(text)
    return [one for arrays in find_features(store, dataset.table.name) for one in audit(arrays, dataset, n_rows)]


def predict_rows(text: str, head: str, store: FeatureStore, reporter: Reporter) -> pd.DataFrame:
    """What a saved head says of every row of a dataset whose features have the head's key."""
    from probes.heads.saved import load_head
    from probes.sweep.saving import predict

    saved = load_head(store, head)
    features = read_key(store, refresh(store, text, reporter), saved.key, saved.pooling)
    if saved.scheme in features.table.labels:
        reporter.notice(_tell_split(features.table, saved.scheme))
    return predict(saved, features)


def list_head_rows(store: FeatureStore) -> list[dict[str, Any]]:
    """The saved heads, one row each."""
    from probes.heads.saved import list_heads

    shown = ("short", "head", "protocol", "dataset", "variant", "backbone", "pooling", "scheme", "fraction", "seed")
    return [{name: getattr(head, name) for name in (*shown, "temperature")} for head in list_heads(store)]


def probe(study: Study, features: Sequence[FeatureMatrix], store: FeatureStore, reporter: Reporter) -> list[Run]:
    """Fit every head on every label scheme, fraction and seed; what the store holds of it is not fitted again."""
    options, progress, schemes = study.probe, reporter.progress("probe"), choose_schemes(study, features)
    pairs = [(matrix, scheme) for matrix in features for scheme in schemes[matrix.table.name]]
    total = len(pairs) * len(options.heads) * len(options.fractions) * options.seeds
    done = count(1)
    runs: list[Run] = []
    told = [_tell_split(matrix.table, scheme) for matrix, scheme in pairs]
    for text in dict.fromkeys([*_describe_labels(study, features), *told]):
        reporter.notice(text)
    for matrix, scheme in pairs:
        runs += cached_sweep(
            store,
            matrix,
            options.heads,
            protocol=options.protocol,
            fractions=options.fractions,
            seeds=options.seeds,
            scheme=scheme,
            validation=options.validation,
            allow_seen_rows=options.allow_seen_rows,
            options=options.head_options,
            progress=lambda _: progress(next(done), total),
        )
    return runs


def _tell_split(table: SampleTable, scheme: str | None) -> str:
    return f"{table.name} ({table.scheme(scheme)}): {describe_split(table, scheme)}"


def _describe_labels(study: Study, features: Sequence[FeatureMatrix]) -> Iterator[str]:
    """What mapping files leave unlabelled."""
    for matrix, labels in product(features, study.probe.labels):
        if scheme_name(labels) in matrix.table.schemes and (text := describe_labels(matrix.table, labels)):
            yield text


def save_heads(study: Study, features: Sequence[FeatureSet], store: FeatureStore) -> list[SavedHead]:
    """Fit every head on all training labels, calibrate it, and keep it for `predict`."""
    from probes.sweep.saving import save_head

    options, schemes = study.probe, choose_schemes(study, features)
    return [
        save_head(
            store,
            matrix,
            head,
            protocol=options.protocol,
            scheme=scheme,
            validation=options.validation,
            allow_seen_rows=options.allow_seen_rows,
            options=options.head_options,
        )
        for matrix in features
        for scheme in schemes[matrix.table.name]
        for head in options.heads
    ]


def project(features: Sequence[FeatureSet], store: FeatureStore, reporter: Reporter) -> list[Projection]:
    """PCA-10 and UMAP of every feature matrix; the store keeps them."""
    progress, projections = reporter.progress("project"), []
    for matrix in features:
        projections.append(cached_projection(store, matrix))
        progress(len(projections), len(features))
    return projections


def probe_study(
    study: Study,
    store: FeatureStore,
    output: Path | None,
    reporter: Reporter,
    *,
    save: bool = False,
    available: Callable[[], int] = available_memory,
) -> StudyResult:
    """Fit the heads, and write their tables where a folder is given.

    Args:
        study: What to fit.
        store: Where the features are, and the heads go.
        output: Folder for the tables; none are written for None.
        reporter: Shows progress.
        save: Whether heads fitted on all training labels are kept for `predict_rows`.
        available: See `open_features`: too large a matrix stays in the store, and is read block by block.
    """
    clock = Clock()
    if save and store.volatile:
        raise StoreWriteError("no head can be saved in this store", where=store.path, hint="Leave out --save.")
    features = open_features(study, store, reporter, available)
    saved = in_memory(features, "saving heads needs") if save else []
    with clock("probe"):
        runs = probe(study, features, store, reporter)
    heads = save_heads(study, saved, store)
    return StudyResult(
        tables=format_tables(runs),
        files=write_results(runs, output) if output else {},
        heads={head.short: f"{head.head} on {head.backbone}, {head.variant}, {head.pooling}" for head in heads},
        seconds=clock.seconds,
        unreadable=list_unreadable(features),
    )


def project_study(study: Study, store: FeatureStore, output: Path, reporter: Reporter) -> StudyResult:
    """Project the features, and write the figures and the coordinates."""
    from probes.plotting import save_figure
    from studies.report.projections import projection_figures

    clock = Clock()
    features = load_features(study, store, reporter)
    with clock("project"):
        projections = project(features, store, reporter)
    files: dict[str, Path] = {}
    for drawn in projection_figures(features, projections, study.probe.scheme):
        files |= {path.name: path for path in save_figure(drawn.figure, output, drawn.name).values()}
    frame = pd.concat(map(_coordinates, features, projections), ignore_index=True)
    path = write_atomically(output / "projections.parquet", lambda part: frame.to_parquet(part, index=False))
    files |= {path.name: path}
    return StudyResult(files=files, seconds=clock.seconds, unreadable=list_unreadable(features))


def _coordinates(matrix: FeatureSet, projection: Projection) -> pd.DataFrame:
    names = {"dataset": matrix.table.name, "variant": matrix.variant, "backbone": matrix.backbone}
    columns = {"sample_id": matrix.table.sample_ids, "x": projection.xy[:, 0], "y": projection.xy[:, 1]}
    return pd.DataFrame(names | columns)


def format_tables(runs: Sequence[Run]) -> tuple[str, ...]:
    """Summaries as plain text, one for each dataset and label scheme."""
    from studies.report.runs import order_subjects

    return tuple(format_table(summarise(part)) for part in order_subjects(runs))


def list_unreadable(features: Sequence[FeatureMatrix]) -> dict[str, str]:
    """Sample id -> reason, of all images behind these features."""
    return {sample: reason for matrix in features for sample, reason in matrix.unreadable.items()}
