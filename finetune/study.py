"""A study of trainings: DATA x variants x backbones x fractions x seeds -> runs, tables, tuned models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import field, replace
from itertools import product
from pathlib import Path, PurePath
from time import perf_counter
from typing import TYPE_CHECKING, Any

from featurestore.datasets import open_dataset
from featurestore.errors import UsageError
from featurestore.files import write_atomically
from featurestore.options import Count, Names, Numbers, options
from featurestore.reporter import StageResult
from finetune.checkpoints import RESUME, telling
from finetune.data.images import Images, load_images
from finetune.data.rows import choose_rows, usable_rows
from finetune.learners.classification import Fit, Task, Tuned, plan_fit, run_fit
from finetune.loggers import check_loggers, make_logger
from finetune.options import FinetuneOptions, make_options
from finetune.processes import is_first
from finetune.run_cache import cached_run, save_run
from finetune.tuned import CARD, read_card, save_tuned
from probes.results.run import Run, format_table, summarise, write_results
from probes.results.tables import write_csv
from probes.sweep.splits import check_fractions, describe_split, parse_fractions

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.reporter import Reporter
    from featurestore.store import FeatureStore


CHECKPOINT, HISTORY = "last.pt", "history.csv"


@options
class FinetuneStudy:
    """What to train.

    Attributes:
        data: Path or shortcut of a dataset.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        options: How to train.
        fractions: Percent of the training labels.
        seeds: Runs for each fraction.
        pooling: What the head sees; None: each backbone's own.
        labels: Label scheme; None: the dataset's default.
        weights: Source of the weights; None: the catalogue's.
        trust_remote_code: Whether code that comes with the weights may run.
        allow_seen_rows: Whether a backbone may be tested on rows that it was trained on before.
        log: Names of `finetune.loggers.LOGGERS`.
        resume: Whether unfinished trainings go on from their checkpoints.
    """

    data: str
    backbones: Names
    variants: Names = ("full-224",)
    options: FinetuneOptions = field(default_factory=FinetuneOptions)
    fractions: Numbers = (100,)
    seeds: Count = 1
    pooling: str | None = None
    labels: str | None = None
    weights: str | None = None
    trust_remote_code: bool = False
    allow_seen_rows: bool = False
    log: Names = ()
    resume: bool = False

    def __post_init__(self) -> None:
        check_fractions(self.fractions)
        check_loggers(self.log)
        for name in ("backbones", "variants"):
            if not getattr(self, name):
                raise UsageError(f"the study names no {name}", where=name, hint=f"Give at least one of {name}.")

    @property
    def tasks(self) -> list[Task]:
        """One for each backbone, fraction and seed."""
        return [
            Task(
                backbone,
                self.options,
                fraction,
                seed,
                pooling=self.pooling,
                scheme=self.labels,
                weights=self.weights,
                trust_remote_code=self.trust_remote_code,
                allow_seen_rows=self.allow_seen_rows,
            )
            for backbone, fraction, seed in product(self.backbones, self.fractions, range(self.seeds))
        ]


def make_finetune_study(
    data: str,
    backbones: tuple[str, ...],
    variants: tuple[str, ...],
    *,
    fractions: str = "100",
    seeds: int = 1,
    pooling: str | None = None,
    labels: str | None = None,
    weights: str | None = None,
    trust_remote_code: bool = False,
    allow_seen_rows: bool = False,
    log: tuple[str, ...] = (),
    resume: bool = False,
    **options: Any,
) -> FinetuneStudy:
    """The study that a command line describes; `options` as in `finetune.options.make_options`.

    Raises:
        UsageError: A fraction is not a whole number.
        SkyprobeError: See `FinetuneStudy` and `make_options`.
    """
    return FinetuneStudy(
        data,
        backbones,
        variants,
        make_options(**options),
        parse_fractions(fractions),
        seeds,
        pooling=pooling,
        labels=labels,
        weights=weights,
        trust_remote_code=trust_remote_code,
        allow_seen_rows=allow_seen_rows,
        log=log,
        resume=resume,
    )


def finetune_study(study: FinetuneStudy, store: FeatureStore, output: Path, reporter: Reporter) -> StageResult:
    """Train what the study asks for; what was trained before, and still has its model, is read.

    Args:
        study: What to train.
        store: A store opened for writing, which caches the runs.
        output: Folder for tables, models, histories and checkpoints; made if need be.
        reporter: Shows progress.

    Raises:
        SkyprobeError: See the parts. Unreadable images raise nothing; the result lists them.
    """
    dataset = open_dataset(study.data)
    reporter.notice(dataset.table.notice)
    runs, files, unreadable = list[Run](), dict[str, Path](), dict[str, str]()
    started = perf_counter()
    for variant in study.variants:
        images = _read_images(study, dataset, variant, reporter)
        unreadable |= images.unreadable
        for task in study.tasks:
            run, folder = _train_once(study, plan_fit(images, task), store, output, reporter)
            runs.append(run)
            files[folder.name] = folder
    return StageResult(
        tables=("\n\n".join(filter(None, (format_table(summarise(runs)), tell_rows(runs)))),),
        files=(write_results(runs, output) if is_first() else {}) | files,
        seconds={"finetune": perf_counter() - started},
        unreadable=unreadable,
    )


def tell_rows(runs: Sequence[Run]) -> str:
    """How many labelled rows trainings learnt from, where early stopping held some of them back; else empty."""
    held = [run for run in runs if run.params["validation"] == "held out"]
    if not held:
        return ""
    rows = ", ".join(dict.fromkeys(f"{run.n_train:,} of {run.n_train + run.n_valid:,}" for run in held))
    return (
        f"These trainings learnt from {rows} labelled rows of their fraction and stopped early by the others; probes "
        "of the same fraction learn from all of them. With --patience 0, trainings do so too."
    )


def _read_images(study: FinetuneStudy, dataset: ImageDataset, variant: str, reporter: Reporter) -> Images:
    """The images of one variant; every training's rows are checked before the first one begins."""
    rows = usable_rows(dataset.table, study.labels)
    progress = reporter.progress(f"read {dataset.table.name}")
    reporter.notice(f"{dataset.table.name}: {describe_split(dataset.table, study.labels)}")
    images = load_images(dataset, variant, rows, study.options.memory, progress)
    for fraction in study.fractions:
        choose_rows(images.table, study.labels, fraction, 0, unlabelled=study.options.consistency is not None)
    return images


def _train_once(
    study: FinetuneStudy, fit: Fit, store: FeatureStore, output: Path, reporter: Reporter
) -> tuple[Run, Path]:
    """The run of one training and the folder of its model: as cached, or trained now."""
    name = _name(fit)
    folder = output / "models" / name
    known = cached_run(store, fit.identity)
    if known and (folder / CARD).exists() and read_card(folder)["identity"] == fit.identity:
        return replace(known, params={**known.params, **fit.notes}), folder  # an older version may not have known them
    checkpoint, log = folder / CHECKPOINT, make_logger(study.log, output, name)
    progress = reporter.progress(f"train {name}")
    tuned = run_fit(fit, checkpoint=checkpoint, resume=study.resume, progress=progress, on_epoch=log)
    reporter.notice(_describe(tuned))
    if is_first():
        with telling(folder, RESUME):
            save_tuned(tuned, folder)
            write_atomically(folder / HISTORY, lambda part: write_csv(tuned.history, part))
            save_run(store, fit.identity, tuned.run, fit.images.dataset.table)
        checkpoint.unlink(missing_ok=True)  # all that it was for is safe now
    return tuned.run, folder


def _name(fit: Fit) -> str:
    """Name of a training's folder: what it is, for people, and its identity, which tells it from all others."""
    task = fit.task
    parts = (PurePath(task.backbone).name, task.options.mode, task.fraction, task.seed, fit.identity[:8])
    return re.sub(r"[^\w.]+", "-", "-".join(map(str, parts)))


def _describe(tuned: Tuned) -> str:
    params = tuned.run.params
    rank = f"adapters of rank {params['rank']}, " if "rank" in params else ""
    return f"{tuned.run.head}: {rank}{params['trained_share']:.2%} of the parameters trained"
