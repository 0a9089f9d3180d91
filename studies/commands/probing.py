"""Commands on stored features: probe, report, umap, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from studies.commands.options import (
    head_options,
    json_option,
    names_options,
    output_option,
    source_options,
    store_option,
)
from studies.commands.running import (
    finish,
    make_terminal,
    open_cache,
    open_store,
    show,
    show_frame,
    typed_command,
    use_gpu,
)


@click.command()
@names_options
@head_options
@source_options
@store_option
@output_option
@click.option("--save", is_flag=True, help="Save each head, fitted on all training labels, for `skyprobe predict`.")
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="ray: each feature matrix on a machine of a Ray cluster.",
)
@click.option("--ray-address", metavar="ADDRESS", help="auto or HOST:PORT; default: a Ray on this machine.")
@json_option
def probe(
    store: str | None,
    output: Path | None,
    save: bool,
    executor: str,
    ray_address: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Fit heads on stored features of DATA over label fractions and seeds; no image is read."""
    use_gpu()
    from studies.stages import probe_study
    from studies.study_file.spec import make_study

    study, opened = make_study(**given), open_cache(store)
    if executor == "ray":
        from studies.spreading import spread_probes

        spread_probes(study, opened, ray_address, make_terminal())
    finish(probe_study(study, opened, output, make_terminal(), save=save), as_json)


@click.command()
@names_options
@head_options
@source_options
@store_option
@output_option
@json_option
def report(store: str | None, output: Path | None, as_json: bool, **given: Any) -> None:
    """Write tables, figures and an HTML report from stored features of DATA, trained models beside the heads."""
    use_gpu()
    from studies.pipeline import report_study
    from studies.study_file.spec import make_study

    folder, opened = output or Path("skyprobe-report"), open_cache(store)
    finish(report_study(make_study(**given), opened, folder, make_terminal(), typed_command()), as_json)


@click.command()
@names_options
@source_options
@click.option("--pooling", help="Pooling; default: the backbone's own.")
@click.option("--labels", metavar="SCHEME", help="Label scheme, or a mapping file; default: the dataset's first.")
@store_option
@output_option
@json_option
def umap(store: str | None, output: Path | None, as_json: bool, **given: Any) -> None:
    """Draw PCA-10 + UMAP of stored features of DATA, and write the coordinates."""
    use_gpu()
    from studies.stages import project_study
    from studies.study_file.spec import make_study

    folder = output or Path("skyprobe-umap")
    finish(project_study(make_study(**given), open_cache(store), folder, make_terminal()), as_json)


@click.command()
@click.argument("data")
@click.option("--head", help="Start of the id of a saved head; without it, the saved heads are listed.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="CSV or Parquet file. Default: CSV to stdout.")
@store_option
@json_option
def predict(data: str, head: str | None, output: Path | None, store: str | None, as_json: bool) -> None:
    """Write a saved head's calibrated class probabilities for every row of DATA, labelled or not."""
    from studies.stages import list_head_rows, predict_rows

    opened = open_store(store, "r")
    if head is None:
        show(list_head_rows(opened), as_json)
    else:
        show_frame(predict_rows(data, head, opened, make_terminal()), output, as_json)
