"""The stage of a study that looks at its features: measure the images, look, show and write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets import open_dataset
from featurestore.errors import SkyprobeError
from featurestore.layout.names import escape
from featurestore.preprocessing import parse_variant
from probes.inspection.explanation import ROWS
from probes.inspection.findings import Inspection, InspectionOptions
from probes.inspection.look import inspect_features
from probes.inspection.nuisance import cached_nuisance, join_columns, read_columns
from probes.inspection.sampling import draw_rows
from probes.outcome import Outcome
from probes.results import write_frame
from probes.tables import to_columns

if TYPE_CHECKING:
    import pandas as pd

    from featurestore.datasets.base import ImageDataset
    from featurestore.store import FeatureStore
    from probes.inspection.contents import Pictures
    from probes.report.html import Plate
    from probes.stages import Reporter
    from probes.streaming import Features

_NO_BOXES = np.empty((0, 4), dtype=np.float32)


def look(
    features: Sequence[Features],
    store: FeatureStore,
    reporter: Reporter,
    output: Path | None = None,
    *,
    scheme: str | None = None,
    options: InspectionOptions | None = None,
    columns: Path | None = None,
) -> Outcome:
    """Look at feature matrices, dataset by dataset, and write what was found.

    Args:
        features: Matrices of any datasets.
        store: A store opened for writing, which keeps what was measured from images.
        reporter: Shows progress, and is told where images are not at hand.
        output: Folder for all tables (CSV) and figures; nothing is written for None.
        scheme: Label scheme; None: each dataset's default.
        options: How to look.
        columns: The user's own quantities, a CSV file with ``sample_id`` and numbers.

    Raises:
        ProbeError: As of `probes.inspection.look.inspect_features`.
        UsageError: As of `probes.inspection.nuisance.read_columns` and `join_columns`.
    """
    from probes.inspection.contents import tables

    started = perf_counter()
    own = None if columns is None else read_columns(columns)
    images = open_images(features, reporter)
    found = inspect_datasets(features, store, reporter, images, scheme=scheme, options=options, columns=own)
    files = {name: path for one in found for name, path in _write(one, output, images)} if output else {}
    return Outcome(
        tables=tuple(f"{table.caption}\n\n{to_columns(_round(table.frame))}" for one in found for table in tables(one)),
        files=files,
        seconds={"look": perf_counter() - started},
        unreadable={name: reason for one in found for name, reason in one.unreadable.items()},
    )


def open_images(features: Sequence[Features], reporter: Reporter) -> dict[str, ImageDataset]:
    """The images behind features, by the name of the dataset; the user is told of those that are not at hand."""
    found = {}
    for table in {matrix.table.name: matrix.table for matrix in features}.values():
        try:
            found[table.name] = open_dataset(table.source)
        except SkyprobeError as error:
            reporter.notice(f"Brightness, noise and size of {table.name} are not measured, no image is shown: {error}")
    return found


def inspect_datasets(
    features: Sequence[Features],
    store: FeatureStore,
    reporter: Reporter,
    images: Mapping[str, ImageDataset],
    *,
    scheme: str | None = None,
    options: InspectionOptions | None = None,
    columns: pd.DataFrame | None = None,
) -> list[Inspection]:
    """A look at each dataset; arguments and errors as of `look`, with `columns` read and `images` opened."""
    chosen = options or InspectionOptions()
    found = []
    for name, part in groupby(sorted(features, key=lambda matrix: matrix.table.name), lambda matrix: matrix.table.name):
        own = list(part)
        table = own[0].table
        rows = draw_rows(table, min(ROWS, chosen.rows), chosen.seed)
        dataset = images.get(name)
        nuisance = cached_nuisance(store, table, rows, dataset, reporter.progress(f"measure {name}"))
        if columns is not None:
            nuisance = join_columns(nuisance, columns, table)
        progress = reporter.progress(f"look {name}")
        found.append(inspect_features(own, nuisance, scheme=scheme, options=chosen, progress=progress))
    return found


def show(inspection: Inspection, images: Mapping[str, ImageDataset]) -> list[Plate]:
    """The plates of a look, with contact sheets where the images are at hand."""
    from probes.inspection.contents import plates

    dataset = images.get(inspection.dataset)
    return plates(inspection, None if dataset is None else _read_pictures(dataset))


def _read_pictures(dataset: ImageDataset) -> Pictures:
    """From a variant and a sample id to what a backbone sees, uint8 (S, S, 3)."""
    place = {name: row for row, name in enumerate(dataset.table.sample_ids)}
    boxes = dataset.table.boxes

    def read(variant: str, sample: str) -> NDArray[Any]:
        row = place[sample]
        image = dataset.read(row).image
        seen = parse_variant(variant)[1].apply(image, _NO_BOXES if boxes is None else boxes.of(row))
        return np.asarray(np.moveaxis(seen, 0, -1) * 255).astype(np.uint8)

    return read


def _write(inspection: Inspection, output: Path, images: Mapping[str, ImageDataset]) -> Iterator[tuple[str, Path]]:
    from probes.figures.style import save_figure

    for name, frame in inspection.frames().items():
        path = output / f"{escape(inspection.dataset)}-{name}.csv"
        yield path.name, write_frame(frame, path)
    for plate in show(inspection, images):
        for path in save_figure(plate.figure, output, plate.name).values():
            yield path.name, path


def _round(frame: pd.DataFrame) -> pd.DataFrame:
    """Numbers as a reader wants them."""
    shown = frame.copy()
    for name in shown.select_dtypes("float"):
        shown[name] = shown[name].map("{:.4g}".format)
    return shown
