"""Command slurm: an extraction as a SLURM job array."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from studies.commands.extraction import extract


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True, metavar="DATA [OPTIONS OF extract]...")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("job.sbatch"), show_default=True)
@click.option("--tasks", default=4, show_default=True, type=click.IntRange(1), help="Tasks of the job array.")
@click.option("--time", "limit", default="04:00:00", show_default=True, help="Time limit of a task; it is requeued.")
@click.option("--cpus", default=4, show_default=True, type=click.IntRange(1), help="Processors of a task.")
@click.option("--gpus", default=0, show_default=True, type=click.IntRange(0), help="GPUs of a task.")
@click.option("--memory", default="8G", show_default=True, help="Memory of a task.")
@click.option("--partition", help="Partition; default: the cluster's.")
def slurm(words: tuple[str, ...], output: Path, **given: object) -> None:
    """Write a job array that extracts DATA in slices; sbatch it, and again for whatever is left.

    A task that comes to its time limit stops in order, and is put into the queue again.
    """
    from featurestore.extraction.executors.slurm import Resources, write_script

    _check(words)
    program = shutil.which("skyprobe") or str(Path(sys.executable).with_name("skyprobe"))
    command = [program, "extract", *words]
    path = write_script(output, command, Path.cwd(), Resources(**given))  # type: ignore[arg-type]
    click.echo(f"{path}\nSubmit it by: sbatch {shlex.quote(str(path))}")


def _check(words: tuple[str, ...]) -> None:
    """Refuse now what would make every task fail later."""
    for own in ("--slice", "--workers"):
        if any(word == own or word.startswith(f"{own}=") for word in words):
            raise click.UsageError(f"{own} is set by the script: leave it out")
    extract.make_context("extract", list(words), parent=click.get_current_context().parent)
