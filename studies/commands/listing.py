"""Commands that list, make or fetch what there is: backbones, datasets, variants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from studies.commands.options import json_option, output_option
from studies.commands.running import make_terminal, show


@click.command("backbones")
@json_option
def list_backbones(as_json: bool) -> None:
    """List the catalogue of backbones, and which weights are here already.

    ADAPTER:MODEL_ID names any other model of a library, NAME@K the inner layer after block K.
    """
    from featurestore.backbones.catalogue import list_specs

    show(list_specs(), as_json)


@click.group("datasets", invoke_without_command=True)
@json_option
@click.pass_context
def list_datasets(context: click.Context, as_json: bool) -> None:
    """List the kinds of datasets; its subcommands make datasets."""
    from featurestore.datasets import dataset_kinds

    if context.invoked_subcommand is None:
        show([{"kind": kind, "reads": text} for kind, text in dataset_kinds().items()], as_json)


@list_datasets.command("crop")
@click.argument("images", nargs=-1, required=True, type=click.Path())
@click.option("--catalogue", required=True, type=click.Path(), help="Sources: CSV, ECSV, FITS, VOTable.")
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
@json_option
def crop_dataset(
    images: tuple[str, ...], catalogue: str, output: Path, physical: bool, as_json: bool, **given: Any
) -> None:
    """Cut FITS IMAGES and the ellipses of a catalogue into crops with boxes, a COCO dataset; again, only new images."""
    from featurestore.datasets.cropping.crop import CropOptions, crop_images
    from featurestore.datasets.remote import place_at

    options = CropOptions(**(given | ({"percentiles": None} if physical else {})))
    places = [place_at(image) for image in images]
    report = crop_images(places, place_at(catalogue), output, options, make_terminal().progress("crop"))
    show(report, as_json)


@list_datasets.command("fetch")
@click.argument("name")
@output_option
@json_option
def fetch_dataset(name: str, output: Path | None, as_json: bool) -> None:
    """Download a public dataset: galaxy_mnist, galaxy_mnist_224, mirabest or rgz; again, only what is missing."""
    from featurestore.datasets.public.fetch import fetch

    terminal = make_terminal()
    show(fetch(name, output, lambda file: terminal.progress(file, "B")), as_json)


@click.command("variants")
@json_option
def list_variants(as_json: bool) -> None:
    """List the named preprocessing variants; a spec such as resize=320,crop=center:0.5 makes any other."""
    from featurestore.preprocessing import VARIANTS

    show([{"variant": name, "spec": str(value)} for name, value in VARIANTS.items()], as_json)
