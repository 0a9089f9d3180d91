"""Commands that train: finetune, detect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from studies.commands.options import json_option, names_options, store_option, training_options
from studies.commands.running import finish, make_terminal, open_existing, open_store


@click.command()
@names_options
@click.option("--mode", default="full", show_default=True, help="head, full, top:N, layerwise, lora or scratch.")
@training_options
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
@store_option
@json_option
def finetune(output: Path, store: str | None, as_json: bool, **given: Any) -> None:
    """Train backbones on the images of DATA; rows and splits are those of the probes."""
    from finetune.study import finetune_study, make_finetune_study

    finish(finetune_study(make_finetune_study(**given), open_store(store, "a"), output, make_terminal()), as_json)


@click.command()
@click.argument("data")
@click.option("-b", "--backbone", "backbones", multiple=True, required=True, help="Backbone; may be repeated.")
@click.option("-p", "--variant", default="resize=256", show_default=True, help="Preprocessing, without a crop.")
@click.option("--mode", default="frozen", show_default=True, help="frozen, tuned, scratch, or stored: dense features.")
@click.option("--view", default="all", show_default=True, help="all classes, or source: one class for every object.")
@training_options
@click.option("--augment/--no-augment", default=True, show_default=True, help="Flips, turns, blur, contrast, jitter.")
@click.option("--channels", type=int, help="Width of the feature pyramid; default: 256, as published.")
@click.option("--hidden", type=int, help="Width of the layers that look at a region; default: 1024.")
@click.option("--regions", type=int, help="Regions of an image that train these; default: 512.")
@click.option("--anchor-scale", type=float, help="Side of an anchor over the stride of its level; default: 4.")
@click.option("--threshold", default=0.5, show_default=True, help="Score from which on a detection counts.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-detect"), show_default=True)
@store_option
@json_option
def detect(output: Path, store: str | None, as_json: bool, **given: Any) -> None:
    """Train source detectors (Faster R-CNN) on the boxes of DATA, and score them."""
    from finetune.detection.study import STORED, detect_study, make_detection_study

    study = make_detection_study(**given)
    opened = open_existing(store) if study.mode == STORED else open_store(store, "a")
    finish(detect_study(study, opened, output, make_terminal()), as_json)
