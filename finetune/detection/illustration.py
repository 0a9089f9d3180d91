"""The figures of one run: its training, its boxes, and what it finds by size and by flux."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from featurestore.datasets.base import ImageDataset
from featurestore.preprocessing import Preprocessing
from finetune.detection.evaluation import match_detections
from finetune.detection.figures import completeness_reliability, contact_sheet, training_curves
from finetune.detection.results import DetectionRun
from finetune.detection.targets import box_fluxes
from probes.plotting import save_figure

MOST_PICTURES = 16
"""Images on a contact sheet."""

_NO_BOXES = np.empty((0, 4), dtype=np.float32)


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
    chosen = np.unique(np.linspace(0, len(run.scenes) - 1, MOST_PICTURES).round().astype(int))
    scenes, detections = [run.scenes[i] for i in chosen], [run.detections[i] for i in chosen]
    pictures = [np.moveaxis(preprocessing.apply(dataset.read(one.row).image, _NO_BOXES), 0, -1) for one in scenes]
    matches = match_detections(scenes, detections, limit=run.scores.limit)
    return contact_sheet(pictures, scenes, detections, matches, threshold=run.threshold, title=title)


def _quantities(
    run: DetectionRun, dataset: ImageDataset
) -> list[tuple[str, str, NDArray[np.float64], NDArray[np.float64]]]:
    """Figure, quantity, and its values for the objects and for the detections of the run's matches."""
    matches = run.matches
    objects = list(zip(matches.object_image, matches.object_box, strict=True))
    found = list(zip(matches.image, matches.box, strict=True))
    pairs = zip(run.scenes, run.detections, strict=True)
    found_flux = [box_fluxes(dataset.read(scene.row).image, one.boxes) for scene, one in pairs]
    return [
        (
            "by_size",
            "size (root of the box area), pixels",
            np.array([_size(run.scenes[image].boxes[box]) for image, box in objects]),
            np.array([_size(run.detections[image].boxes[box]) for image, box in found]),
        ),
        (
            "by_flux",
            "sum over the box, unit of the image",
            np.array([run.scenes[image].flux[box] for image, box in objects]),
            np.array([found_flux[image][box] for image, box in found]),
        ),
    ]


def _size(box: NDArray[np.float32]) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
