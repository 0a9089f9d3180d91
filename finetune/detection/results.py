"""Results of detectors: one DetectionRun for each, and the tables made from runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from featurestore.errors import FinetuneError
from featurestore.store.key import digest
from featurestore.training_rows import SEEN
from finetune.detection.evaluation import (
    SWEEP,
    DetectionScores,
    Matches,
    bootstrap_map50,
    match_detections,
    score_detections,
)
from finetune.detection.targets import AnnotatedImage, Detections
from probes.results.json_values import json_ready
from probes.results.run import COMPARED, IDENTITY, tell_splits
from probes.results.tables import Table, to_text
from probes.statistics.bootstrap import Difference

SCORE_THRESHOLD = 0.5
"""Score from which on a detection counts for completeness and reliability, unless another is given."""

LIMIT = "max_detections"
"""Name of the number of detections that count in an image and class, in the parameters and in the summary."""

_SUMMARISED = ("map50", "map", "completeness", "reliability")

_LINE = [*COMPARED, "settings"]
"""Columns that tell one line of the summary from another."""


@dataclass(frozen=True)
class DetectionRun:
    """One detector, trained on one fraction with one seed, and what it found in the test images.

    Attributes:
        dataset: Name of the dataset.
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        mode: ``frozen``, ``tuned`` or ``scratch``.
        view: ``all`` classes or ``source``.
        fraction: Share of the training images, in percent.
        seed: Seed of subset, initialisation and training.
        n_train: Training images.
        classes: Names of the classes.
        images: The test images.
        detections: What was found, for each image.
        threshold: Score from which on a detection counts for completeness and reliability.
        key: KEY12 of the stored features it was trained on; empty for one that was trained on images.
        params: Options of the training.
        seconds: Wall time of training and detection.
        split: Where its training and test rows come from; empty in runs that an older version cached.
        method: Start of a digest of what fractions and seeds share; empty in runs that an older version cached.
    """

    dataset: str
    variant: str
    backbone: str
    mode: str
    view: str
    fraction: int
    seed: int
    n_train: int
    classes: tuple[str, ...]
    images: tuple[AnnotatedImage, ...]
    detections: tuple[Detections, ...]
    threshold: float = SCORE_THRESHOLD
    key: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    split: str = ""
    method: str = ""

    @property
    def head(self) -> str:
        """``detect:MODE``, as the other rows name their heads."""
        return f"detect:{self.mode}"

    @property
    def identity(self) -> dict[str, Any]:
        """The columns of `probes.results.run.IDENTITY`: features are dense maps, the labels those of the view."""
        own = {"pooling": "dense", "scheme": f"boxes:{self.view}", "head": self.head, "protocol": "paper"}
        return {name: own[name] if name in own else getattr(self, name) for name in IDENTITY}

    @cached_property
    def settings(self) -> str:
        """What tells detectors of one backbone, mode and fraction apart: weights, options, data."""
        params = {name: value for name, value in self.params.items() if name != SEEN}
        return self.method or digest({"params": json_ready(params), "threshold": self.threshold})[:6]

    @cached_property
    def scores(self) -> DetectionScores:
        """Average precision on the test images."""
        return score_detections(self.images, self.detections, self.classes)

    @cached_property
    def matches(self) -> Matches:
        """Which detection found which object, at IoU 0.5."""
        return match_detections(self.images, self.detections)


def to_frame(runs: Sequence[DetectionRun]) -> pd.DataFrame:
    """Tidy rows, one a run x metric x class, in the columns of `probes.results.run.to_frame`.

    ``ap50`` and ``ap`` (IoU 0.5 ... 0.95) of each class; ``map50``, ``map`` and ``map_iou0.1`` ... ``map_iou0.9`` as
    ``macro``; ``completeness`` and ``reliability`` as ``all``; ``support`` is the number of objects. ``n_test`` and
    ``n_train`` count images; ``params`` has ``max_detections``, the detections that count in an image and class.
    """
    rows = [_provenance(run) | cells for run in runs for cells in _cells(run)]
    columns = [*IDENTITY, "n_train", "n_valid", "n_test", "n_features", "split", "seconds", "params"]
    columns += ["metric", "class", "value"]
    return pd.DataFrame(rows, columns=columns)


def summarise(runs: Sequence[DetectionRun]) -> pd.DataFrame:
    """One line for each detector, over its seeds.

    The columns are those of `probes.results.run.COMPARED` and ``settings``, ``runs``, and of ``map50``, ``map``,
    ``completeness`` and ``reliability`` the mean, with ``map50_min`` and ``map50_max``; ``split``; ``max_detections``;
    and where any backbone was trained on test images, ``seen_test_rows``, their number as text.
    """
    frame = pd.concat([to_frame([run]).assign(settings=run.settings) for run in runs])
    chosen = frame[frame["metric"].isin(_SUMMARISED) & frame["class"].isin(["macro", "all"])]
    means = chosen.groupby([*_LINE, "metric"], sort=True)["value"].mean()
    table = means.unstack("metric")[list(_SUMMARISED)]  # noqa: PD010  (pivot_table drops what is NaN throughout)
    map50 = chosen[chosen["metric"] == "map50"].groupby(_LINE, sort=True)["value"].agg(["size", "min", "max"])
    table.insert(0, "runs", map50["size"])
    table["split"] = chosen.groupby(_LINE)["split"].max()
    table.insert(2, "map50_min", map50["min"])
    table.insert(3, "map50_max", map50["max"])
    lines = {(*(run.identity[name] for name in COMPARED), run.settings): run for run in runs}
    table[LIMIT] = [lines[line].scores.limit for line in table.index]
    if any(SEEN in run.params for run in runs):
        table[SEEN] = [str(lines[line].params.get(SEEN, 0)) for line in table.index]
    return table.rename_axis(columns=None).reset_index()


def show(summary: pd.DataFrame) -> Table:
    """The summary of one dataset as it is shown, below a caption that states what the columns are."""
    frame = pd.DataFrame({
        "backbone": summary["backbone"],
        "variant": summary["variant"],
        "head": summary["head"],
        "classes": summary["scheme"].str.removeprefix("boxes:"),
        "images": summary["fraction"].map("{} %".format),
        "runs": summary["runs"],
        "mAP@50 [min-max]": [
            f"{line.map50:.3f} [{line.map50_min:.3f}-{line.map50_max:.3f}]" for line in summary.itertuples()
        ],
        "mAP": summary["map"].map("{:.3f}".format),
        "completeness": summary["completeness"].map("{:.3f}".format),
        "reliability": summary["reliability"].map("{:.3f}".format),
    })  # fmt: skip
    if summary.duplicated([*COMPARED]).any():
        frame.insert(list(frame).index("runs"), "settings", summary["settings"])
    if SEEN in summary:
        frame[SEEN] = summary[SEEN]
    limits = " or ".join(map(str, sorted(summary[LIMIT].unique())))
    caption = (
        f"{summary['dataset'].iloc[0]}: mAP on the test images, means over runs; mAP is that over IoU 0.5 ... 0.95; "
        f"completeness and reliability at the score threshold and IoU 0.5; of each image and class, the best {limits} "
        "detections count."
    )
    caption = " ".join([caption, *tell_splits(summary)])
    return Table(caption, frame)


def format_table(summary: pd.DataFrame) -> str:
    """`show` as plain text."""
    return to_text(show(summary))


def by_detector(runs: Sequence[DetectionRun], *, fractions: bool = True) -> Iterator[tuple[str, list[DetectionRun]]]:
    """Name of a detector -> its runs, in the order of the runs; settings are named only where they have to be.

    Args:
        runs: Runs on one dataset, view and variant.
        fractions: Whether the name tells the fraction; of runs of a single one it need not.
    """
    detectors: dict[tuple[str, str], list[DetectionRun]] = {}
    for run in runs:
        plain = f"{run.backbone}, {run.mode}" + f", {run.fraction} %" * fractions
        detectors.setdefault((plain, run.settings), []).append(run)
    names = [plain for plain, _ in detectors]
    for (plain, settings), own in detectors.items():
        yield plain if names.count(plain) == 1 else f"{plain}, settings {settings}", own


def compare(first: Sequence[DetectionRun], second: Sequence[DetectionRun], **options: Any) -> Difference:
    """Paired bootstrap of the difference in mAP@50, second minus first; each is a mean over its runs.

    Args:
        first: Runs (seeds) of one detector.
        second: Runs of the other.
        **options: See `finetune.detection.evaluation.bootstrap_map50`.

    Raises:
        FinetuneError: No runs, or runs that were tested on different images or classes.
    """
    check_comparable(first, second)
    before, after = ([run.matches for run in runs] for runs in (first, second))
    return bootstrap_map50(before, after, len(first[0].images), **options)


def check_comparable(first: Sequence[DetectionRun], second: Sequence[DetectionRun]) -> None:
    """Refuse runs that cannot be paired.

    Raises:
        FinetuneError: No runs, or runs that were tested on different images or classes.
    """
    tests = {(run.classes, tuple(truth.sample_id for truth in run.images)) for run in (*first, *second)}
    if not first or not second or len(tests) > 1:
        raise FinetuneError(
            "the runs were not tested on the same images and classes",
            where=f"{len(first)} and {len(second)} runs",
            hint="Compare runs of one dataset, one view of the classes and one test split.",
        )


def _provenance(run: DetectionRun) -> dict[str, Any]:
    counts = {"n_train": run.n_train, "n_valid": 0, "n_test": len(run.images), "n_features": 0}
    params = json.dumps(json_ready({**run.params, LIMIT: run.scores.limit}), sort_keys=True)
    return {**run.identity, **counts, "split": run.split, "seconds": run.seconds, "params": params}


def _cells(run: DetectionRun) -> list[dict[str, Any]]:
    scores, by_class = run.scores, []
    for number, name in enumerate(run.classes):
        ap50, ap = scores.of_class(number)
        by_class += [("ap50", name, ap50), ("ap", name, ap), ("support", name, float(scores.n_objects[number]))]
    macro = [("map50", "macro", scores.map50), ("map", "macro", scores.map)]
    macro += [(f"map_iou{value:.1f}", "macro", scores.sweep[value]) for value in SWEEP]
    every = [
        ("completeness", "all", run.matches.completeness(run.threshold)),
        ("reliability", "all", run.matches.reliability(run.threshold)),
        ("support", "all", float(np.sum(scores.n_objects))),
    ]
    return [{"metric": metric, "class": name, "value": value} for metric, name, value in (*by_class, *macro, *every)]
