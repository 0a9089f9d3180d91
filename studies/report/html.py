"""One self-contained HTML file: styles, figures and tables inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from featurestore.files import write_atomically
from probes.plotting import CaptionedFigure, write_figure
from probes.results.escaping import escape_lines
from probes.results.tables import Table as Table  # noqa: PLC0414 (a part of reports, as CaptionedFigure is)
from probes.results.tables import show_cell

Facts = Mapping[str, Any]
"""Names and values; a value may be facts again."""


def write_report(
    path: Path,
    *,
    title: str,
    headlines: Sequence[str] = (),
    tables: Sequence[Table] = (),
    figures: Sequence[CaptionedFigure] = (),
    provenance: Mapping[str, Facts] | None = None,
    cost: Mapping[str, Facts] | None = None,
    unreadable: Mapping[str, Mapping[str, str]] | None = None,
    notices: Sequence[str] = (),
    commands: Sequence[str] = (),
) -> Path:
    """Write the report; equal input gives an equal file.

    Args:
        path: The HTML file to write or replace.
        title: Title of the study.
        headlines: The main results, one sentence each.
        tables: Tables, in order.
        figures: Figures, in order.
        provenance: Title -> facts about one feature matrix: its key in full, versions.
        cost: Title -> facts about one extraction: seconds, rates.
        unreadable: Dataset -> sample id -> reason.
        notices: Licence notices of the images; repeated ones are shown once.
        commands: Commands that made the report.

    Raises:
        StoreWriteError: The file cannot be written.
    """
    text = _TEMPLATES.get_template("report.html.j2").render(
        title=title,
        headlines=headlines,
        tables=tables,
        figures=figures,
        provenance=provenance or {},
        cost=cost or {},
        unreadable={dataset: reasons for dataset, reasons in (unreadable or {}).items() if reasons},
        notices=list(dict.fromkeys(notice for notice in notices if notice)),
        commands=commands,
    )
    return write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def flatten(facts: Facts, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Facts within facts as rows ``outer.inner, value``."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def data_uri(figure: Figure) -> str:
    """The figure as an SVG image within a link; as an image, its identifiers cannot clash with another figure's."""
    stream = BytesIO()
    write_figure(figure, stream, "svg")
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("studies.report"),
        autoescape=True,  # names of datasets and classes are the user's
        finalize=lambda value: escape_lines(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": show_cell, "data_uri": data_uri, "flatten": flatten}
    return environment


_TEMPLATES = _environment()
