"""Scores of runs as lines and dots with bars: what the figures of scores draw into their panels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from probes.plotting import BASELINE, DASHES, FILLS, MARKERS, PALETTE, legend_label
from probes.results.run import COMPARED, Run, to_frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Metric = Literal["f1", "precision", "recall"]

Subject = tuple[str, str]
"""Dataset and label scheme: what runs must share to be in one panel."""

FROM_SCRATCH = "from scratch"


class Series(NamedTuple):
    """Scores that one line or one kind of dot shows.

    Attributes:
        name: What tells the features from those of the other series: backbone, variant and so on; or a class, or a
            label scheme, where the rows of `scores` are features.
        head: Name of the head; empty where the rows of `scores` are features.
        scores: One row a point: ``fraction``, ``class`` or macro, ``runs``, ``mean``, ``min``, ``max`` over the seeds.
        style: Colour by features, marker and dashes by head; networks trained from scratch have a look of their own.
        subject: Dataset and label scheme.
    """

    name: str
    head: str
    scores: pd.DataFrame
    style: dict[str, Any]
    subject: Subject

    @property
    def bars(self) -> NDArray[np.float64]:
        """Distances (2, n) from the mean down to the minimum and up to the maximum."""
        scores = self.scores
        # The mean of equal scores may miss them by a rounding error, and a bar must not be negative.
        return np.stack([scores["mean"] - scores["min"], scores["max"] - scores["mean"]]).clip(min=0)

    @property
    def is_baseline(self) -> bool:
        """Whether this is a network that was trained from scratch."""
        return is_baseline(self.head)

    def label(self, *, heads: bool) -> str:
        """Name for a legend, with the head if it is wanted."""
        return _label(self.name, self.head, heads)


def subject_of(run: Run) -> Subject:
    """Dataset and label scheme."""
    return run.dataset, run.scheme


def name_subject(run: Run) -> str:
    """Dataset and label scheme, for a reader."""
    return f"{run.dataset} ({run.scheme})"


def by_subject(runs: Iterable[Run]) -> list[list[Run]]:
    """Runs that can share a panel or a table, those of one dataset and label scheme; in the order of the runs."""
    parts: dict[Subject, list[Run]] = {}
    for run in runs:
        parts.setdefault(subject_of(run), []).append(run)
    return list(parts.values())


def is_baseline(head: str) -> bool:
    """Whether runs of this head are of networks that were trained from scratch, as ``finetune:scratch``."""
    return head.endswith(":scratch")


def macro_series(runs: Sequence[Run], metric: Metric = "f1") -> list[Series]:
    """Macro mean of a metric by label fraction, in the order of the runs."""
    scores = _scores(runs, metric)
    return list(_split(scores[scores["class"] == "macro"].sort_values("fraction", kind="stable")))


def class_series(runs: Sequence[Run], metric: Metric = "f1") -> list[Series]:
    """A metric by class, of runs of one label fraction, in the order of the runs."""
    scores = _scores(runs, metric)
    return list(_split(scores[scores["class"] != "macro"]))


def grouped_series(runs: Sequence[Run], by: Literal["class", "scheme"]) -> tuple[list[Series], list[str]]:
    """F1 of runs of one dataset and label fraction with the features as rows, in the order of the runs.

    Args:
        runs: The runs.
        by: ``class``: a series for each class; ``scheme``: one for each label scheme, of the macro mean.

    Returns:
        The series, whose scores have a row for each features; NaN where there is no run. And names of the rows.
    """
    scores = _scores(runs, "f1")
    scores = scores[(scores["class"] == "macro") == (by == "scheme")]
    heads = len({head for head in scores["head"] if not is_baseline(head)}) > 1
    names = [_label(name, head, heads) for name, head in zip(_names(scores), scores["head"], strict=True)]
    scores = scores.assign(name=names)
    rows = scores["name"].drop_duplicates().tolist()
    looks = zip(cycle(PALETTE), cycle(MARKERS), strict=False)
    made = [
        Series(
            str(name),
            "",
            _in_rows(part, rows),
            {"color": colour, "marker": marker},
            _subject_of_scores(part),
        )
        for (name, part), (colour, marker) in zip(scores.groupby(by, sort=False), looks, strict=False)
    ]
    return made, rows


def _in_rows(scores: pd.DataFrame, rows: list[str]) -> pd.DataFrame:
    """The scores by row; NaN where there is no run."""
    return scores.set_index("name").reindex(pd.Index(rows))


def draw_lines(axes: Axes, series: Sequence[Series], labels: Sequence[str]) -> None:
    """Score against label fraction."""
    for index, (one, label) in enumerate(zip(series, labels, strict=True)):
        # Moved aside by points of paper, not by data: bars stay apart, and every mark keeps its true fraction.
        points = (index - (len(series) - 1) / 2) * min(3, 15 / len(series))
        aside = axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
        x, y = one.scores["fraction"], one.scores["mean"]
        axes.errorbar(x, y, yerr=one.bars, label=legend_label(label), capsize=2, transform=aside, **one.style)


def draw_dots(axes: Axes, series: Sequence[Series], labels: Sequence[str]) -> None:
    """Score of each row, rows from top to bottom, series side by side within a row."""
    places = np.linspace(-0.35, 0.35, len(series) + 2)[1:-1]
    for place, one, label in zip(places, series, labels, strict=True):
        x, y = one.scores["mean"], np.arange(len(one.scores)) + place
        axes.errorbar(x, y, xerr=one.bars, label=legend_label(label), capsize=2, **one.style | {"linestyle": ""})


def label_fractions(axes: Axes, runs: Sequence[Run]) -> None:
    """A logarithmic axis whose ticks are the fractions with their number of labels."""
    fractions = sorted({run.fraction for run in runs})
    numbers = [_range([run.n_train for run in runs if run.fraction == fraction]) for fraction in fractions]
    axes.set_xscale("log")
    axes.set_xticks(fractions, [f"{f}\n({number})" for f, number in zip(fractions, numbers, strict=True)])
    axes.set_xticks([], minor=True)
    axes.set_xlim(fractions[0] / 1.25, fractions[-1] * 1.25)


def label_classes(axes: Axes, run: Run) -> None:
    """Class names with their number of test images, from top to bottom."""
    label_rows(axes, count_classes(run))


def label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Names of rows from top to bottom."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)


def count_classes(run: Run) -> list[str]:
    """Class names with their number of test images."""
    support = np.bincount(run.truth, minlength=len(run.classes))
    return [f"{name} ({n:,})" for name, n in zip(run.classes, support, strict=True)]


def count_images(runs: Sequence[Run]) -> str:
    """Number of test images, as a range where it differs."""
    return _range([len(run.truth) for run in runs])


def _scores(runs: Sequence[Run], metric: Metric) -> pd.DataFrame:
    """A metric over the seeds: `COMPARED`, ``class`` (or macro), ``runs``, ``mean``, ``min``, ``max``."""
    frame = to_frame(runs)
    chosen = frame[frame["metric"] == metric]
    scores = chosen.groupby([*COMPARED, "class"], sort=False)["value"].agg(["size", "mean", "min", "max"])
    return scores.rename(columns={"size": "runs"}).reset_index()


def _split(scores: pd.DataFrame) -> Iterator[Series]:
    """Series of one look each; the same features and the same head look the same on all datasets."""
    scores = scores.assign(name=_names(scores))
    baselines = scores["head"].map(is_baseline)
    colours = dict(zip(scores.loc[~baselines, "name"].unique(), cycle(product(FILLS, PALETTE)), strict=False))
    shapes = dict(zip(scores.loc[~baselines, "head"].unique(), zip(cycle(MARKERS), cycle(DASHES)), strict=False))
    scratch = dict(zip(scores.loc[baselines, "name"].unique(), cycle(MARKERS), strict=False))
    for (dataset, scheme, name, head), part in scores.groupby(["dataset", "scheme", "name", "head"], sort=False):
        if is_baseline(str(head)):
            style: dict[str, Any] = BASELINE | {"marker": scratch[name]}
        else:
            marker, dashes = shapes[head]
            fill, colour = colours[name]
            style = {"color": colour, "fillstyle": fill, "marker": marker, "linestyle": dashes}
        yield Series(str(name), str(head), part, style, (str(dataset), str(scheme)))


def _names(scores: pd.DataFrame) -> pd.Series[str]:
    """Names of the features, which say only what differs; the key only where nothing else does."""
    trained = scores["head"].str.contains(":")  # a training has a pooling and a protocol of its own, told by its head
    told = [name for name in ("backbone", "variant") if len(set(scores[name])) > 1]
    told += [name for name in ("pooling", "protocol") if scores.groupby(trained)[name].nunique().max() > 1]
    told = told or ["backbone", "variant"]
    if scores.groupby(["dataset", "scheme", "head", *told])["key"].nunique().max() > 1:
        told.append("key")
    return scores[told].astype(str).agg(", ".join, axis=1)


def _label(name: str, head: str, heads: bool) -> str:
    if is_baseline(head):
        return f"{name}, {FROM_SCRATCH}"
    return f"{name}, {head}" if heads else name


def _subject_of_scores(scores: pd.DataFrame) -> Subject:
    return str(scores["dataset"].iloc[0]), str(scores["scheme"].iloc[0])


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,}-{high:,}"
