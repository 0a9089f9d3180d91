"""The stage of a study that diagnoses its features: measure the images, diagnose, show and write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets import open_dataset
from featurestore.errors import PreprocessingError, SkyprobeError, UnreadableImageError
from featurestore.preprocessing import parse_variant
from featurestore.store.layout.names import escape
from probes.diagnostics.covariates import join_columns, read_columns
from probes.diagnostics.diagnose import diagnose_features
from probes.diagnostics.explanation import ROWS
from probes.diagnostics.findings import Diagnostics, DiagnosticsOptions
from probes.diagnostics.sampling import draw_rows
from probes.results.run import write_frame
from probes.results.tables import to_text
from studies.images.covariates import cached_covariates
from studies.images.sampling import boxes_of, to_picture
from studies.result import StudyResult

if TYPE_CHECKING:
    import pandas as pd

    from featurestore.datasets.base import ImageDataset
    from featurestore.reporter import Reporter
    from featurestore.store import FeatureStore
    from featurestore.store.features import FeatureMatrix
    from probes.plotting import CaptionedFigure
    from studies.report.diagnostics import Pictures


def diagnose_study(
    features: Sequence[FeatureMatrix],
    store: FeatureStore,
    reporter: Reporter,
    output: Path | None = None,
    *,
    scheme: str | None = None,
    options: DiagnosticsOptions | None = None,
    columns: Path | None = None,
) -> StudyResult:
    """Diagnose feature matrices, dataset by dataset, and write what was found.

    Args:
        features: Matrices of any datasets.
        store: A store opened for writing, which keeps what was measured from images.
        reporter: Shows progress, and is told where images are not at hand.
        output: Folder for all tables (CSV) and figures; nothing is written for None.
        scheme: Label scheme; None: each dataset's default.
        options: How to diagnose.
        columns: The user's own quantities, a CSV file with ``sample_id`` and numbers.

    Raises:
        ProbeError: See `probes.diagnostics.diagnose.diagnose_features`.
        UsageError: See `probes.diagnostics.covariates.read_columns` and `join_columns`.
    """
    from studies.report.diagnostics import tables

    started = perf_counter()
    own = None if columns is None else read_columns(columns)
    images = open_images(features, reporter)
    found = diagnose_datasets(features, store, reporter, images, scheme=scheme, options=options, columns=own)
    for one in found:
        reporter.notice(f"{one.dataset}{f' ({one.scheme})' if one.scheme else ''}: {one.split}")
    files = {name: path for one in found for name, path in _write(one, output, images)} if output else {}
    return StudyResult(
        tables=tuple(to_text(table) for one in found for table in tables(one)),
        files=files,
        seconds={"diagnose": perf_counter() - started},
        unreadable={name: reason for one in found for name, reason in one.unreadable.items()},
    )


def open_images(features: Sequence[FeatureMatrix], reporter: Reporter) -> dict[str, ImageDataset]:
    """The images behind features, by the name of the dataset; the user is told of those that are not at hand."""
    found = {}
    for table in {matrix.table.name: matrix.table for matrix in features}.values():
        try:
            found[table.name] = open_dataset(table.source)
        except SkyprobeError as error:
            reporter.notice(f"Brightness, noise and size of {table.name} are not measured, no image is shown: {error}")
    return found


def diagnose_datasets(
    features: Sequence[FeatureMatrix],
    store: FeatureStore,
    reporter: Reporter,
    images: Mapping[str, ImageDataset],
    *,
    scheme: str | None = None,
    options: DiagnosticsOptions | None = None,
    columns: pd.DataFrame | None = None,
) -> list[Diagnostics]:
    """Diagnostics of each dataset; arguments as in `diagnose_study`, with `columns` read and `images` opened."""
    chosen = options or DiagnosticsOptions()
    found = []
    for name, part in groupby(sorted(features, key=lambda matrix: matrix.table.name), lambda matrix: matrix.table.name):
        own = list(part)
        table = own[0].table
        rows = draw_rows(table, min(ROWS, chosen.rows), chosen.seed)
        dataset = images.get(name)
        covariates = cached_covariates(store, table, rows, dataset, reporter.progress(f"measure {name}"))
        if columns is not None:
            covariates = join_columns(covariates, columns, table)
        progress = reporter.progress(f"diagnose {name}")
        found.append(diagnose_features(own, covariates, scheme=scheme, options=chosen, progress=progress))
    return found


def show(found: Diagnostics, images: Mapping[str, ImageDataset]) -> list[CaptionedFigure]:
    """The figures of diagnostics, with contact sheets where the images are at hand."""
    from studies.report.diagnostics import captioned_figures

    dataset = images.get(found.dataset)
    return captioned_figures(found, None if dataset is None else _read_pictures(dataset))


def _read_pictures(dataset: ImageDataset) -> Pictures:
    """From a variant and a sample id to what a backbone sees, uint8 (S, S, 3)."""
    place = {name: row for row, name in enumerate(dataset.table.sample_ids)}

    def read(variant: str, sample: str) -> NDArray[np.uint8]:
        """The image, or a grey square where it can no longer be shown: the title tells which it was."""
        preprocessing = parse_variant(variant)[1]
        try:
            row = place[sample]
            return to_picture(preprocessing.apply(dataset.read(row).image, boxes_of(dataset.table, row)))
        except (KeyError, UnreadableImageError, PreprocessingError):
            return np.full((preprocessing.resize, preprocessing.resize, 3), 128, dtype=np.uint8)

    return read


def _write(found: Diagnostics, output: Path, images: Mapping[str, ImageDataset]) -> Iterator[tuple[str, Path]]:
    from probes.plotting import save_figure

    for name, frame in found.frames().items():
        path = output / f"{escape(found.dataset)}-{name}.csv"
        yield path.name, write_frame(frame.assign(split=found.split), path)
    for figure in show(found, images):
        for path in save_figure(figure.figure, output, figure.name).values():
            yield path.name, path
