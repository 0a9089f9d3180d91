"""Figures of a detector: its training, its score against IoU, what it drew, and what it finds by size and by flux.

None touches pyplot or a display.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from featurestore.errors import FinetuneError
from finetune.detection.evaluation import SWEEP, DetectionScores, Matches, bin_shares, match_detections
from finetune.detection.results import DetectionRun
from finetune.detection.targets import AnnotatedImage, Detections, box_fluxes
from probes.plotting import (
    BASELINE,
    COLUMN,
    MARKERS,
    PAGE,
    PALETTE,
    STYLE,
    draw_picture,
    label_powers,
    save_figure,
    share_legend,
    title_figure,
)
from probes.statistics.bootstrap import Difference

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from featurestore.datasets.base import ImageDataset
    from featurestore.preprocessing import Preprocessing

COLOURS = {"truth": "#0072B2", "hit": "#009E73", "miss": "#E69F00", "false": "#D55E00", "ignored": "#b8b8b8"}
"""What is drawn on a contact sheet: an object that was found and its detection, one that was missed, a false detection,
and a region or detection that counts for nothing."""

_COLUMNS = 4

MOST_PICTURES = 16
"""Images on a contact sheet."""

_NO_BOXES = np.empty((0, 4), dtype=np.float32)


@mpl.rc_context(STYLE)
def training_curves(history: pd.DataFrame, title: str) -> Figure:
    """Losses and mAP@50 by epoch, one above the other.

    Args:
        history: One row an epoch: ``epoch``, a column ``loss_...`` for each loss, and ``score`` (mAP@50), NaN where it
            was not measured.
        title: What was trained.
    """
    figure = Figure(figsize=(COLUMN * 1.25, 4.2))
    losses, score = figure.subplots(2, 1, sharex=True)
    names = [name for name in history.columns if name.startswith("loss_")]
    for name, colour in zip(names, cycle(PALETTE)):
        losses.plot(history["epoch"], history[name], color=colour, label=name.replace("_", " "))
    losses.set(ylabel="mean loss", yscale="log")
    label_powers(losses.yaxis)
    losses.legend(fontsize="small", ncols=2)
    known = history.dropna(subset=["score"])
    score.plot(known["epoch"], known["score"], marker="o", color=PALETTE[0])
    score.set(xlabel="epoch", ylabel="mAP@50", ylim=(0, 1))
    score.xaxis.set_major_locator(MaxNLocator(integer=True))
    title_figure(figure, title)
    return figure


@mpl.rc_context(STYLE)
def iou_sweep(scores: Mapping[str, Sequence[DetectionScores]], title: str) -> Figure:
    """The mAP against the IoU threshold: a line for each detector, a bar from min to max over its runs.

    Args:
        scores: Name of a detector -> its runs.
        title: What was tested.

    Raises:
        FinetuneError: There is no detector.
    """
    if not scores:
        raise FinetuneError(
            "there is no detector to draw", where="scores", hint="Give the scores of at least one detector."
        )
    figure = Figure(figsize=(COLUMN * 1.25, 3.2))
    axes = figure.add_subplot()
    for (name, runs), colour, marker in zip(scores.items(), cycle(PALETTE), cycle(MARKERS)):
        values = np.array([list(run.sweep.values()) for run in runs])
        mean = values.mean(axis=0)
        bars = np.stack([mean - values.min(axis=0), values.max(axis=0) - mean]).clip(min=0)
        axes.errorbar(SWEEP, mean, yerr=bars, label=name, color=colour, marker=marker, capsize=2)
    axes.set(xlabel="IoU threshold", ylabel="mAP (bars: min to max)", xticks=SWEEP)
    share_legend(figure)
    title_figure(figure, title)
    return figure


@mpl.rc_context(STYLE)
def iou_differences(differences: Mapping[str, Mapping[str, Mapping[float, Difference]]]) -> Figure:
    """Difference in mAP from the network trained from scratch, against the IoU threshold: a panel for each test.

    A mark is the difference of means over runs; its bar is the bootstrap interval over the test images.

    Args:
        differences: What was tested -> name of a detector -> IoU threshold -> difference, as
            `finetune.detection.differences.differences_from_scratch` gives them.

    Raises:
        FinetuneError: No differences.
    """
    every = [one for rows in differences.values() for row in rows.values() for one in row.values()]
    if not every:
        raise FinetuneError(
            "there are no differences to draw", where="scores", hint="Train a detector from scratch, and another one."
        )
    columns = min(2, len(differences))
    rows = -(-len(differences) // columns)
    width = PAGE if columns > 1 else COLUMN * 1.25
    figure = Figure(figsize=(width, 2.5 * rows + 1.0))
    names = list(dict.fromkeys(name for detectors in differences.values() for name in detectors))
    looks = dict(zip(names, zip(cycle(PALETTE), cycle(MARKERS)), strict=False))
    for index, (title, detectors) in enumerate(differences.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.axhline(0, label="from scratch", **BASELINE | {"marker": ""})
        for place, (name, sweep) in enumerate(detectors.items()):
            _draw_sweep(axes, sweep, place - (len(detectors) - 1) / 2, name, *looks[name])
        axes.set_title(title)
        axes.set(xlabel="IoU threshold", ylabel="difference in mAP", xticks=SWEEP)
    share_legend(figure)
    interval = f"{every[0].confidence:.0%} interval, {every[0].n_resamples:,} bootstrap resamples of the test images"
    title_figure(figure, f"mAP minus that of the network from scratch\nbars: {interval}")
    return figure


def _draw_sweep(
    axes: Axes, sweep: Mapping[float, Difference], place: float, name: str, colour: str, marker: str
) -> None:
    """Differences with their intervals, moved aside by `place` steps of paper."""
    aside = axes.transData + ScaledTranslation(place * 2.5 / 72, 0, axes.figure.dpi_scale_trans)
    ious, values = list(sweep), np.array([one.value for one in sweep.values()])
    ends = np.array([(one.low, one.high) for one in sweep.values()])
    # An interval of percentiles need not hold the value itself, and a bar must not be negative.
    bars = np.stack([values - ends[:, 0], ends[:, 1] - values]).clip(min=0)
    axes.errorbar(ious, values, yerr=bars, label=name, color=colour, marker=marker, capsize=2, transform=aside)
    axes.update_datalim([(iou, end) for iou, pair in zip(ious, ends, strict=True) for end in pair])
    axes.autoscale_view()


@mpl.rc_context(STYLE)
def completeness_reliability(
    matches: Matches,
    objects: NDArray[np.float64],
    found: NDArray[np.float64],
    *,
    quantity: str,
    threshold: float,
    title: str,
) -> Figure:
    """Completeness (recall) and reliability (precision) at a score threshold, in up to eight logarithmic bins.

    Args:
        matches: Of one run.
        objects: float64 (k,), flux or size of each object of `matches`; values that are not positive are left out.
        found: float64 (m,), the same quantity of each of its detections.
        quantity: Its name and unit, for the axis.
        threshold: Detections of a lower score do not count.
        title: What was tested.

    Raises:
        FinetuneError: No object has a positive value.
    """
    positive = objects[objects > 0]
    if not len(positive):
        raise FinetuneError("no object has a positive value", where=quantity, hint="Draw another quantity.")
    edges = np.geomspace(positive.min(), positive.max() * (1 + 1e-9), min(8, len(positive)) + 1)
    counted = (matches.score >= threshold) & ~matches.ignored
    parts = {
        "completeness": bin_shares(objects, matches.object_score >= threshold, edges),
        "reliability": bin_shares(found[counted], matches.hit[counted], edges),
    }
    figure = Figure(figsize=(COLUMN * 1.25, 2.9))
    axes = figure.add_subplot()
    for (name, (shares, counts)), colour, marker in zip(parts.items(), PALETTE, MARKERS, strict=False):
        axes.plot(
            np.sqrt(edges[1:] * edges[:-1]), shares, color=colour, marker=marker, label=f"{name} ({counts.sum()})"
        )
    axes.set(xscale="log", ylim=(-0.03, 1.03), xlabel=quantity, ylabel=f"share at score >= {threshold:g}")
    label_powers(axes.xaxis)
    axes.legend()
    title_figure(figure, title)
    return figure


@mpl.rc_context(STYLE)
def detection_sheet(
    pictures: Sequence[NDArray[Any]],
    annotated: Sequence[AnnotatedImage],
    detections: Sequence[Detections],
    matches: Matches,
    *,
    threshold: float,
    title: str,
) -> Figure:
    """Images with their boxes: truth that was found and its detection, missed objects, false detections.

    Args:
        pictures: (H, W) or (H, W, 3) of each image, scaled for display.
        annotated: What is in them.
        detections: What was found.
        matches: Of all these images.
        threshold: Detections of a lower score are not drawn, and what only they found counts as missed.
        title: What was tested.

    Raises:
        FinetuneError: No pictures.
    """
    if not pictures:
        raise FinetuneError("there are no images to draw", where="contact sheet", hint="Give at least one image.")
    rows = -(-len(pictures) // _COLUMNS)
    figure = Figure(figsize=(PAGE, PAGE / _COLUMNS * rows + 0.8))
    for index, (picture, truth) in enumerate(zip(pictures, annotated, strict=True)):
        axes = figure.add_subplot(rows, _COLUMNS, index + 1)
        height, width = truth.size
        draw_picture(axes, picture, truth.sample_id.rpartition("/")[2][:24], (0, width, height, 0))
        _draw_boxes(axes, index, truth, detections[index], matches, threshold)
    handles = [Rectangle((0, 0), 1, 1, fill=False, edgecolor=colour) for colour in COLOURS.values()]
    figure.legend(handles, list(COLOURS), loc="outside lower center", ncols=len(COLOURS))
    title_figure(figure, title)
    return figure


def _draw_boxes(
    axes: Axes, index: int, truth: AnnotatedImage, found: Detections, matches: Matches, threshold: float
) -> None:
    for box in truth.boxes[truth.crowd]:
        _draw(axes, box, "ignored", "--")
    objects = matches.object_image == index
    for box, score in zip(matches.object_box[objects], matches.object_score[objects], strict=True):
        _draw(axes, truth.boxes[box], "truth" if score >= threshold else "miss", "-")
    for place in np.flatnonzero((matches.image == index) & (matches.score >= threshold)):
        kind = "hit" if matches.hit[place] else "ignored" if matches.ignored[place] else "false"
        _draw(axes, found.boxes[matches.box[place]], kind, "-")


def _draw(axes: Axes, box: NDArray[np.float32], kind: str, dashes: str) -> None:
    x0, y0, x1, y1 = box
    axes.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=COLOURS[kind], linestyle=dashes, linewidth=0.9)
    )


def illustrate(
    run: DetectionRun, history: pd.DataFrame, dataset: ImageDataset, preprocessing: Preprocessing, folder: Path
) -> dict[str, Path]:
    """Draw and write the figures of a run.

    Returns:
        File name -> path, in three formats each: ``training``, ``contact_sheet``, ``by_size``, and ``by_flux`` where
        the images have fluxes.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    title = f"{run.dataset}: {run.backbone}, {run.mode}, {run.n_train} training images"
    figures = {
        "training": training_curves(history, title),
        "contact_sheet": _sheet(run, dataset, preprocessing, title),
    }
    for name, quantity, objects, found in _quantities(run, dataset):
        if (objects > 0).any():
            figures[name] = completeness_reliability(
                run.matches, objects, found, quantity=quantity, threshold=run.threshold, title=title
            )
    saved = [save_figure(figure, folder, name) for name, figure in figures.items()]
    return {path.name: path for files in saved for path in files.values()}


def _sheet(run: DetectionRun, dataset: ImageDataset, preprocessing: Preprocessing, title: str) -> Figure:
    """Images spread evenly over the test rows, as the backbone sees them."""
    chosen = np.unique(np.linspace(0, len(run.images) - 1, MOST_PICTURES).round().astype(int))
    annotated, detections = [run.images[i] for i in chosen], [run.detections[i] for i in chosen]
    pictures = [np.moveaxis(preprocessing.apply(dataset.read(one.row).image, _NO_BOXES), 0, -1) for one in annotated]
    matches = match_detections(annotated, detections, limit=run.scores.limit)
    return detection_sheet(pictures, annotated, detections, matches, threshold=run.threshold, title=title)


def _quantities(
    run: DetectionRun, dataset: ImageDataset
) -> list[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]]:
    """Figure, quantity, and its values for the objects and for the detections of the run's matches."""
    matches = run.matches
    objects = list(zip(matches.object_image, matches.object_box, strict=True))
    found = list(zip(matches.image, matches.box, strict=True))
    pairs = zip(run.images, run.detections, strict=True)
    found_flux = [box_fluxes(dataset.read(truth.row).image, one.boxes) for truth, one in pairs]
    return [
        (
            "by_size",
            "size (root of the box area), pixels",
            np.array([_size(run.images[image].boxes[box]) for image, box in objects]),
            np.array([_size(run.detections[image].boxes[box]) for image, box in found]),
        ),
        (
            "by_flux",
            "sum over the box, unit of the image",
            np.array([run.images[image].flux[box] for image, box in objects]),
            np.array([found_flux[image][box] for image, box in found]),
        ),
    ]


def _size(box: NDArray[np.float32]) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
