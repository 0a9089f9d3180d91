"""What every command does: open a store, speak to the user, print a result."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

if TYPE_CHECKING:
    import pandas as pd

    from featurestore.extraction.extract import ExtractionReport
    from featurestore.reporter import StageResult
    from featurestore.store import FeatureStore
    from featurestore.store.entry import FeatureEntry
    from studies.terminal import Terminal


DONE_WITH_UNREADABLE = 3
"""Exit code of a command that finished but could not read some images."""


def use_gpu() -> None:
    """Let cuML stand in on a machine that has it and a GPU: before the first module that needs scikit-learn."""
    from probes.solvers.backend import accelerate

    if accelerate():
        click.echo("skyprobe: cuML stands in for scikit-learn and umap where it knows them", err=True)


def open_store(path: str | None, mode: Literal["r", "a"]) -> FeatureStore:
    """A store; what a reader finds new in the sources of its datasets, and works out, is forgotten with it."""
    from featurestore import store

    return store.open_store(path, mode=mode, volatile=mode == "r")


def open_existing(path: str | None) -> FeatureStore:
    """A store to change; a mistyped path must not become an empty store."""
    open_store(path, "r")
    return open_store(path, "a")


def open_cache(path: str | None) -> FeatureStore:
    """A store to read features from, and to cache results in where it can be written."""
    from featurestore.errors import StoreWriteError
    from featurestore.store.opening import FORMAT_VERSION

    opened = open_store(path, "r")
    if opened.version < FORMAT_VERSION:
        make_terminal().notice(
            f"{opened.path} has format version {opened.version}, which is only read: results are not cached until "
            f"skyprobe migrate --store {opened.path}."
        )
        return opened
    try:
        return open_store(path, "a")
    except StoreWriteError:
        make_terminal().notice(
            f"{opened.path} cannot be written: results are not cached, and are worked out again next time."
        )
        return opened


def exists(path: str | None) -> bool:
    """Whether there is a store to read."""
    from featurestore.store import is_store

    return is_store(path)


def find(
    mode: Literal["r", "a"], data: str, backbone: str | None, variant: str | None, key: str | None, store: str | None
) -> tuple[FeatureStore, list[FeatureEntry]]:
    """The store, and the features in it that were selected: at least one."""
    from featurestore.store.query import find_features
    from studies.sources import find_dataset

    opened = open_store(store, mode) if mode == "r" else open_existing(store)
    return opened, find_features(opened, find_dataset(opened, data), variant, backbone, key)


def show(value: object, as_json: bool) -> None:
    """Rows and records by themselves, so that listing a store is quick; a result needs what it is a result of."""
    from studies.terminal import to_json, to_lines, to_table

    if as_json:
        click.echo(to_json(value))
    elif isinstance(value, list):
        click.echo(to_table(value))
    elif isinstance(value, dict):
        click.echo(to_lines(value))
    else:
        from probes.results.escaping import escape_lines
        from studies.result_text import to_text

        click.echo(escape_lines(to_text(value)))


def finish(result: ExtractionReport | StageResult, as_json: bool) -> None:
    """Print a result; the exit code tells of unreadable images."""
    show(result, as_json)
    if result.unreadable:
        sys.exit(DONE_WITH_UNREADABLE)


def make_terminal() -> Terminal:
    """Whoever shows progress and notices."""
    from studies.terminal import Terminal

    return Terminal()


def typed_command() -> str:
    """What the user typed, for the report."""
    return shlex.join(["skyprobe", *sys.argv[1:]])


def show_frame(frame: pd.DataFrame, output: Path | None, as_json: bool) -> None:
    """A table to a CSV or Parquet file, or to stdout."""
    from probes.results.run import write_frame
    from probes.results.tables import to_csv

    if output:
        click.echo(write_frame(frame, output))
    else:
        click.echo(frame.to_json(orient="records") if as_json else to_csv(frame), nl=as_json)
