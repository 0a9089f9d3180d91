"""What a report and a terminal show of diagnostics: tables and captioned figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.store.layout.names import escape
from probes.diagnostics.diagnose import name_matrices
from probes.diagnostics.findings import IDENTITY, Diagnostics
from probes.diagnostics.flagged import COLUMNS, MOST
from probes.plotting import CaptionedFigure
from probes.results.run import to_sentence
from probes.results.tables import Table
from studies.figures.diagnostics import flagged_sheet, heat_map, rank_spectrum

SHOWN = 5
"""Flagged samples of each reason and feature matrix that tables and contact sheets show; the CSV file lists all."""

Pictures = Callable[[str, str], NDArray[Any]]
"""From a variant and a sample id to what the backbone saw of the image, uint8 (H, W, 3)."""

_MEASURES = {
    "sample": "Effective rank and intrinsic dimension of the features of {rows} images.",
    "training rows": "Class separability ({scheme}) of {rows} labelled training images: variance between classes over "
    "variance within, silhouette, share of the 10 nearest images that are of the same class, and that share by chance.",
    "all": "Images whose features equal another's, pairs of unequal features closer than the cosine similarity named, "
    "and test images with such a partner among training or validation images; of all {rows} images.",
}
_EXPLAINED = {
    "features_from_quantity": "Share of the variance of the features that each quantity of the image explains",
    "quantity_from_features": "Share of the variance of each quantity that the features predict",
}


def tables(found: Diagnostics) -> list[Table]:
    """Everything that was found; of flagged samples, the worst five of each reason. Captions tell the split."""
    named = _named(found)
    shown = [_measure_table(found, named["measures"], of) for of in named["measures"]["of"].unique()]
    if len(found.alignments):
        cka = _square(found.alignments, "debiased").reset_index(names="features")
        rows = _span(found.alignments["rows"])
        shown.append(Table(f"{found.dataset}: debiased linear CKA over {rows} common images.", cka))
    if len(found.covariates):
        shown += [_covariate_table(found, named["covariates"], value) for value in _EXPLAINED]
    if len(found.flagged):
        caption = (
            f"{found.dataset}: flagged images, at most {SHOWN} of each reason and features; "
            f"skyprobe diagnose --output FOLDER lists up to {MOST:,}."
        )
        worst = _worst(named["flagged"])[["features", *COLUMNS]]
        shown.append(Table(caption, worst.reset_index(drop=True)))
    told = to_sentence(found.split)
    return [replace(table, caption=f"{table.caption} {told}".rstrip()) for table in shown]


def captioned_figures(found: Diagnostics, pictures: Pictures | None = None) -> list[CaptionedFigure]:
    """The rank spectrum; heat maps of CKA and covariates; a contact sheet for each feature matrix.

    Args:
        found: What was found.
        pictures: Reads images for the contact sheets; without it, there are none.
    """
    drawn = [_spectrum_figure(found)]
    if len(found.alignments):
        drawn.append(_alignment_figure(found))
    if len(found.covariates):
        drawn.append(_covariate_figure(found))
    return drawn + (_flagged_figures(found, pictures) if pictures else [])


def _spectrum_figure(found: Diagnostics) -> CaptionedFigure:
    named = _named(found)
    shares = {str(name): part["share"].to_numpy() for name, part in named["spectra"].groupby("features", sort=False)}
    of_rank = named["measures"][named["measures"]["measure"] == "effective rank"]
    ranks = dict(zip(of_rank["features"], of_rank["value"], strict=True))
    listed = ", ".join(f"{name} {rank:.1f}" for name, rank in ranks.items())
    caption = (
        f"Singular values of the centred features of {_span(of_rank['rows'])} images of {found.dataset}. "
        "A tick below marks the effective rank, the exponential of their entropy."
    )
    return CaptionedFigure(
        escape(f"{found.dataset}-rank-spectrum"),
        rank_spectrum(shares, ranks, f"{found.dataset}: rank spectrum"),
        caption,
        f"Falling curves of singular values. Effective ranks: {listed}.",
    )


def _alignment_figure(found: Diagnostics) -> CaptionedFigure:
    cells = _square(found.alignments, "debiased")
    return CaptionedFigure(
        escape(f"{found.dataset}-cka"),
        heat_map(cells, "debiased linear CKA", f"{found.dataset}: similarity of the features"),
        f"Debiased linear CKA between feature matrices of {found.dataset}, over "
        f"{_span(found.alignments['rows'])} common images: 1 for features that a rotation and a factor turn into "
        "each other, 0 for unrelated ones.",
        f"Heat map of the similarity between {', '.join(cells.index)}. The table gives its numbers.",
    )


def _covariate_figure(found: Diagnostics) -> CaptionedFigure:
    table = _covariate_table(found, _named(found)["covariates"], "features_from_quantity")
    cells = table.frame.set_index("features")
    return CaptionedFigure(
        escape(f"{found.dataset}-covariates"),
        heat_map(cells, "share of variance", f"{found.dataset}: what explains the features"),
        table.caption,
        f"Heat map of shares of variance of {', '.join(cells.index)}. The table gives its numbers.",
    )


def _flagged_figures(found: Diagnostics, pictures: Pictures) -> list[CaptionedFigure]:
    captioned_figures = []
    for name, part in _worst(_named(found)["flagged"]).groupby("features", sort=False):
        variant = str(part["variant"].iloc[0])
        sheet = flagged_sheet(part, partial(pictures, variant), f"{name}: flagged images")
        captioned_figures.append(
            CaptionedFigure(
                escape(f"{found.dataset}-flagged-{name}"),
                sheet,
                f"{found.dataset}, {name}: at most {SHOWN} leaks, pairs of equal and of close features (with "
                "their cosine similarity), and outliers (with their distance over the median), as the backbone saw "
                "them.",
                f"Contact sheet of {len(part)} findings; the table lists their ids.",
            )
        )
    return captioned_figures


def _measure_table(found: Diagnostics, measures: pd.DataFrame, of: str) -> Table:
    part = measures[measures["of"] == of]
    caption = _MEASURES[of].format(rows=_span(part["rows"]), scheme=found.scheme)
    return Table(f"{found.dataset}: {caption}", _wide(part, "measure", "value"))


def _covariate_table(found: Diagnostics, covariates: pd.DataFrame, value: str) -> Table:
    known = covariates if value == "features_from_quantity" else covariates[covariates["quantity"] != "all"]
    caption = f"{_EXPLAINED[value]}: R^2 on held-out images of five folds, {_span(covariates['rows'])} images."
    return Table(f"{found.dataset}: {caption}", _wide(known, "quantity", value))


def _named(found: Diagnostics) -> dict[str, pd.DataFrame]:
    """The tables of feature matrices, with the short name of each in a column ``features``."""
    identities = found.measures[list(IDENTITY)].drop_duplicates()
    names = name_matrices(identities.to_dict("records"))  # type: ignore[arg-type]
    short = identities.assign(features=names)
    frames = {name: frame for name, frame in found.frames().items() if name != "alignments"}
    return {name: frame.merge(short, on=list(IDENTITY), how="left") for name, frame in frames.items()}


def _wide(frame: pd.DataFrame, columns: str, values: str) -> pd.DataFrame:
    """A line for each feature matrix and a column for each name in `columns`, both in their order."""
    order = list(dict.fromkeys(frame[columns]))
    wide = frame.pivot(index="features", columns=columns, values=values)  # noqa: PD010
    wide = wide.reindex(index=list(dict.fromkeys(frame["features"])), columns=order)
    return wide.rename_axis(columns=None).reset_index()


def _square(alignments: pd.DataFrame, value: str) -> pd.DataFrame:
    """A symmetric matrix with ones on its diagonal."""
    names = list(dict.fromkeys([*alignments["first"], *alignments["second"]]))
    cells = pd.DataFrame(np.eye(len(names)), index=names, columns=names)
    for line in alignments.itertuples():
        cells.loc[line.first, line.second] = cells.loc[line.second, line.first] = getattr(line, value)
    return cells


def _worst(flagged: pd.DataFrame) -> pd.DataFrame:
    return flagged.groupby(["features", "reason"], sort=False).head(SHOWN)


def _span(rows: pd.Series[int]) -> str:
    fewest, most = rows.min(), rows.max()
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
