"""Results: one Run for each fitted head, and the tables made from runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from featurestore.errors import ProbeError, UsageError
from featurestore.files import write_atomically
from featurestore.training_rows import SEEN
from probes.results import tables
from probes.results.json_values import json_ready
from probes.results.scores import Scores, score
from probes.results.tables import Table

IDENTITY = ("dataset", "variant", "backbone", "pooling", "key", "scheme", "head", "protocol", "fraction", "seed")
"""Columns that tell one run from another."""

COMPARED = ("dataset", "scheme", "backbone", "variant", "pooling", "key", "head", "protocol", "fraction")
"""Columns that tell one line of the summary from another: the identity without the seed, in order of display."""

_NONE = "-"

_SHOWN = ("dataset", "scheme", "backbone", "variant", "pooling", "protocol")
"""Columns that a printed table shows where they vary, and states in its caption where they do not."""


@dataclass(frozen=True)
class Run:
    """One head, fitted on one label fraction with one seed, and what it said of the test rows.

    Attributes:
        dataset: Name of the dataset.
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        pooling: Name of the pooling.
        key: KEY12 of the features.
        scheme: Label scheme.
        head: Name of a head of `probes.heads.registry.HEADS`, or of a training: ``finetune:lora``.
        protocol: ``cv`` or ``paper``, or ``convex``, the rule of earlier versions; of a training ``supervised`` or
            ``fixmatch``.
        fraction: Share of the training labels, in percent.
        seed: Seed of the subset and of the initialisation.
        n_train: Rows the head was fitted on.
        n_valid: Labelled rows that it could choose by, `C` or an epoch; 0 if it did not look at any.
        n_features: Width of the features.
        classes: Class names.
        sample_ids: Ids of the test rows.
        truth: int64 (n_test,), true labels.
        probabilities: float32 (n_test, n_classes).
        params: What was chosen or fixed: `C`, epochs, k.
        seconds: Wall time of fit and predict.
        split: Where its training and test rows come from, see `probes.sweep.splits.describe_split`; empty in runs that
            an older version cached.
        origin: Digest of the labels, heads and libraries behind it, see `probes.sweep.tasks.digest_origin`; empty in
            runs that an older version cached, and in trainings.
    """

    dataset: str
    variant: str
    backbone: str
    pooling: str
    key: str
    scheme: str
    head: str
    protocol: str
    fraction: int
    seed: int
    n_train: int
    n_valid: int
    n_features: int
    classes: tuple[str, ...]
    sample_ids: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    params: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    split: str = ""
    origin: str = ""

    @property
    def predicted(self) -> NDArray[np.int64]:
        """int64 (n_test,), the most probable class."""
        return np.asarray(self.probabilities.argmax(axis=1), dtype=np.int64)

    @property
    def untested(self) -> tuple[str, ...]:
        """Classes without test rows: they have no scores, and are in no macro mean."""
        counts = np.bincount(self.truth, minlength=len(self.classes))
        return tuple(name for name, count in zip(self.classes, counts, strict=True) if not count)

    @cached_property
    def scores(self) -> Scores:
        """All scores on the test rows; computed once for all tables."""
        return score(self.truth, self.probabilities)


def to_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Tidy rows, one a run x metric x class, with the provenance of the run.

    The column ``class`` is a class name, or ``macro`` for unweighted means over classes, or ``all`` for scores of all
    test rows at once; ``value`` is float64. The column ``params`` is JSON.
    """
    rows = [_provenance(run) | cells for run in runs for cells in _score_rows(run)]
    columns = [*IDENTITY, "n_train", "n_valid", "n_test", "n_features", "split", "seconds", "params"]
    columns += ["metric", "class", "value"]
    return pd.DataFrame(rows, columns=columns)


def summarise(runs: Sequence[Run]) -> pd.DataFrame:
    """One line for each head, fraction, variant, backbone and pooling: scores over the seeds, sorted.

    Columns after those of `COMPARED`: ``runs``, ``metric``, ``mean``, ``min``, ``max`` of that metric over the seeds,
    ``interval`` (what min and max are), ``accuracy`` (its mean), ``split`` (where the test rows come from), and
    ``untested`` (classes without test rows); where any backbone was trained on test rows, also ``seen_test_rows``,
    their number as text.
    """
    cells = [
        {name: getattr(run, name) for name in (*COMPARED, "split")}
        | {"f1": run.scores.macro["f1"], "accuracy": run.scores.overall["accuracy"]}
        for run in runs
    ]
    lines = pd.DataFrame(cells, columns=[*COMPARED, "split", "f1", "accuracy"]).groupby([*COMPARED], sort=True)
    summary = lines["f1"].agg(["size", "mean", "min", "max"]).rename(columns={"size": "runs"})
    # runs of one line have one split, but for older ones without
    summary = summary.assign(accuracy=lines["accuracy"].mean(), split=lines["split"].max())
    summary.insert(1, "metric", "macro-F1")
    summary.insert(5, "interval", "min-max")
    untested = {compared: name_untested(part) for compared, part in _group(runs).items()}
    summary = summary.assign(untested=[untested[name] for name in summary.index])
    seen = {tuple(getattr(run, name) for name in COMPARED): run.params[SEEN] for run in runs if SEEN in run.params}
    if seen:
        summary[SEEN] = [str(seen.get(line, 0)) for line in summary.index]
    return summary.reset_index()


def _group(runs: Sequence[Run]) -> dict[tuple[Any, ...], list[Run]]:
    """Runs by their fields of `COMPARED`."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in COMPARED), []).append(run)
    return groups


def name_untested(runs: Iterable[Run]) -> str:
    """Classes that had no test rows in any of these runs, with commas between; ``-`` for none."""
    return ", ".join(dict.fromkeys(name for run in runs for name in run.untested)) or _NONE


def tell_untested(untested: Iterable[str]) -> str:
    """A sentence on classes without test rows, to end the caption of a table with macro means; empty for none.

    Args:
        untested: For each row of the table, see `name_untested`.
    """
    names = ", ".join(dict.fromkeys(name for name in untested if name != _NONE))
    if not names:
        return ""
    return f" Without test rows, and so in no macro mean (scikit-learn counts them as 0 once predicted): {names}."


def prediction_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run x test sample: ids, the run's columns, true and predicted class, ``p_CLASS`` float32."""
    return pd.concat([_prediction_rows(run) for run in runs], ignore_index=True) if runs else pd.DataFrame()


def write_results(runs: Sequence[Run], folder: Path) -> dict[str, Path]:
    """Write all tables; a file is either whole or absent.

    Args:
        runs: At least one run.
        folder: Made if need be.

    Returns:
        Path by file name: results.csv and results.parquet (`to_frame`), summary.csv and summary.tex (`summarise`),
        predictions.parquet (`prediction_frame`).

    Raises:
        ProbeError: No runs.
        StoreWriteError: The folder cannot be written.
    """
    if not runs:
        raise ProbeError("there are no results to write", where=folder, hint="Run at least one head.")
    frame, summary, predictions = to_frame(runs), summarise(runs), prediction_frame(runs)
    writers: dict[str, Callable[[Path], object]] = {
        "results.csv": lambda path: tables.write_csv(frame, path),
        "results.parquet": lambda path: frame.to_parquet(path, index=False),
        "summary.csv": lambda path: tables.write_csv(summary, path),
        "summary.tex": lambda path: path.write_text(to_latex(summary), encoding="utf-8"),
        "predictions.parquet": lambda path: predictions.to_parquet(path, index=False),
    }
    return {name: write_atomically(folder / name, write) for name, write in writers.items()}


def to_latex(summary: pd.DataFrame) -> str:
    """The summary as a LaTeX table (booktabs), with a caption that states metric, runs and interval."""
    return tables.to_latex(Table(" ".join(describe(summary)), wide_table(summary)))


def format_table(summary: pd.DataFrame) -> str:
    """The summary as plain text: a caption that states metric, runs and interval, then label fractions as columns."""
    return tables.to_text(Table("\n".join(describe(summary)), wide_table(summary)))


def _provenance(run: Run) -> dict[str, Any]:
    columns = {name: getattr(run, name) for name in (*IDENTITY, "n_train", "n_valid", "n_features", "split", "seconds")}
    return columns | {"n_test": len(run.truth), "params": json.dumps(json_ready(run.params), sort_keys=True)}


def _score_rows(run: Run) -> list[dict[str, Any]]:
    cells = [
        (metric, name, value)
        for metric, values in run.scores.per_class.items()
        for name, value in zip(run.classes, values.tolist(), strict=True)
    ]
    cells += [(metric, "macro", value) for metric, value in run.scores.macro.items()]
    cells += [(metric, "all", value) for metric, value in run.scores.overall.items()]
    return [{"metric": metric, "class": name, "value": value} for metric, name, value in cells]


def _prediction_rows(run: Run) -> pd.DataFrame:
    names = np.asarray(run.classes, dtype=object)
    columns = {"sample_id": list(run.sample_ids)} | {name: getattr(run, name) for name in IDENTITY}
    columns |= {"truth": names[run.truth], "predicted": names[run.predicted]}
    columns |= {f"p_{name}": run.probabilities[:, index] for index, name in enumerate(run.classes)}
    columns["split"] = run.split
    return pd.DataFrame(columns)


def wide_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Text cells ``mean [min-max]``: one column a label fraction, rows named by what varies in this summary."""
    text = [f"{line.mean:.3f} [{line.min:.3f}-{line.max:.3f}]" for line in summary.itertuples()]
    rows = [name for name in tell_apart(summary) if name != "fraction"]
    cells = summary.assign(cell=text).pivot_table(index=rows, columns="fraction", values="cell", aggfunc="first")
    cells.columns = pd.Index([f"{percent} %" for percent in cells.columns])
    return cells.fillna("-").reset_index()


def tell_apart(lines: pd.DataFrame) -> list[str]:
    """Columns that name the lines of a table: the head, and what varies; key and settings only where they have to.

    Args:
        lines: Has the columns of `COMPARED`, and ``settings`` if lines may differ in them.
    """
    names = [name for name in COMPARED if name == "head" or (name in (*_SHOWN, "fraction") and _varies(lines[name]))]
    for name, place in (("key", names.index("head")), ("settings", len(names) + 1)):
        if name in lines and lines.duplicated(names).any() and _varies(lines[name]):
            names.insert(place, name)
    if "settings" in lines and "settings" not in names and lines["settings"].str.contains(SEEN).any():
        names.append("settings")
    return names + ([SEEN] if SEEN in lines else [])


def describe(summary: pd.DataFrame) -> tuple[str, str]:
    """What the cells are, and what all rows of the table share."""
    line, (fewest, most) = summary.iloc[0], summary["runs"].agg(["min", "max"])
    untested = tell_untested(summary["untested"])
    runs = str(most) if fewest == most else f"{fewest} to {most}"
    shared = ", ".join(f"{name} {line[name]}" for name in (*_SHOWN, "key") if not _varies(summary[name]))
    return (
        f"{line['metric']} on the test rows against share of labels; mean [{line['interval']}]; runs: {runs}."
        + untested,
        " ".join([f"All rows: {shared}.", *tell_splits(summary)]),
    )


def tell_splits(lines: pd.DataFrame) -> list[str]:
    """Sentences on where the test rows of a table come from; a table over several says it of each.

    Args:
        lines: Has the columns ``split``, ``dataset`` and ``scheme``.
    """
    told = lines[lines["split"] != ""].drop_duplicates(["dataset", "scheme", "split"])
    if len(told) == 1:
        return [to_sentence(str(told["split"].iloc[0]))]
    return [f"{one.dataset} ({one.scheme}): {one.split}." for one in told.itertuples()]


def to_sentence(split: str) -> str:
    """Where test rows come from, as a sentence of a caption; empty where nothing is known."""
    return f"{split[0].upper()}{split[1:]}." if split else ""


def _varies(column: pd.Series[Any]) -> bool:
    return bool((column != column.iloc[0]).any())


def write_frame(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as Parquet or CSV, by the suffix of `path`; the file is either whole or absent.

    Raises:
        UsageError: Another suffix.
        StoreWriteError: The folder cannot be written.
    """
    writers: dict[str, Callable[[Path], object]] = {
        ".csv": lambda part: tables.write_csv(frame, part),
        ".parquet": lambda part: frame.to_parquet(part, index=False),
    }
    if path.suffix not in writers:
        raise UsageError(f"unknown table format {path.suffix!r}", where=path, hint="Use .csv or .parquet.")
    return write_atomically(path, writers[path.suffix])
