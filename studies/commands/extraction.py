"""Commands from images to a report: demo, run, extract."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from studies.commands.options import (
    Names,
    columns_options,
    engine_options,
    executor_options,
    json_option,
    names_options,
    source_options,
    store_option,
)
from studies.commands.running import exists, finish, make_terminal, open_store, show, typed_command, use_gpu

if TYPE_CHECKING:
    from featurestore.extraction.executors.slices import Slice


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-demo"), show_default=True)
@json_option
def demo(output: Path, as_json: bool) -> None:
    """Run the main job on 2,158 real radio galaxies, in two minutes."""
    use_gpu()
    from studies.pipeline import run_study
    from studies.study_file.reader import read_study

    store = open_store(str(output / "skyprobe.zarr"), "a")
    finish(
        run_study(read_study(Path("demo"), make_terminal().notice), store, output, make_terminal(), typed_command()),
        as_json,
    )


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-report"), show_default=True)
@store_option
@json_option
def run(study: Path, output: Path, store: str | None, as_json: bool) -> None:
    """Run a STUDY: datasets x variants x backbones x probes, and trainings; again, only what is new.

    STUDY is a TOML file, or the name of one that comes with skyprobe: demo, small, fields, drawn, galaxy-mnist, rgz.
    """
    use_gpu()
    from studies.pipeline import run_study
    from studies.study_file.reader import read_study

    chosen = read_study(study, make_terminal().notice)
    finish(run_study(chosen, open_store(store, "a"), output, make_terminal(), typed_command()), as_json)


EXECUTOR_FIELDS = ("executor", "devices", "ray_address", "gpus_per_worker")


def find_slice(text: str | None, notice: Callable[[str], None]) -> Slice:
    """The slice that was asked for; else that of this task of a SLURM job, which is told."""
    from featurestore.extraction.executors.slices import parse_slice, slice_from_slurm

    if text is not None:
        return parse_slice(text)
    found = slice_from_slurm(os.environ)
    if found.count > 1:
        notice(f"Slice {found}, as SLURM counts its tasks; --slice 0/1 extracts everything.")
    return found


@click.command()
@names_options
@columns_options
@source_options
@engine_options
@executor_options
@store_option
@click.option("--dry-run", is_flag=True, help="State images, forwards, bytes and time; store nothing.")
@json_option
def extract(
    data: str,
    backbones: Names,
    variants: Names,
    store: str | None,
    part: str | None,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Embed every image of DATA by every backbone at every variant, each image decoded once.

    Several such commands on one store share the work, whatever machines they run on; a killed one goes on where it was.

    The columns of a catalogue that are used as labels, splits, groups, positions are printed. Options that choose
    them are written into DATA, which is printed too, for other commands: CATALOGUE,labels=COLUMN,split=COLUMN.
    """
    from featurestore.datasets import open_dataset
    from featurestore.datasets.naming import with_options
    from featurestore.extraction.estimate import estimate
    from featurestore.extraction.executors.run import ExecutorOptions, run_extraction
    from featurestore.extraction.processing import Hooks
    from featurestore.extraction.requests import ExtractionOptions

    columns = {name: options.pop(name) for name in ("labels", "file", "split", "catalogue", "keep")}
    text = with_options(data, columns)
    terminal = make_terminal()
    if (lanes := options.pop("lanes")) is not None:
        terminal.notice("--lanes is now called --workers.")
        options["workers"] = lanes
    executor = ExecutorOptions(**{name: options.pop(name) for name in EXECUTOR_FIELDS})
    place = find_slice(part, terminal.notice)
    dataset, chosen = open_dataset(text), ExtractionOptions(**options)
    terminal.notice(dataset.table.notice)
    if text != data:
        terminal.notice(f"DATA for other commands: {shlex.quote(text)}")
    if dry_run:
        known = open_store(store, "r") if exists(store) else None
        show(estimate(dataset, backbones, variants, known, chosen), as_json)
        return
    hooks = Hooks(terminal.progress(f"extract {dataset.table.name}"), terminal.notice)
    opened = open_store(store, "a")
    report = run_extraction(text, dataset, backbones, variants, opened, chosen, executor, place, hooks)
    terminal.notice(report.weights_check)
    finish(report, as_json)
