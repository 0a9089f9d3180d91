"""Commands that explain: attention, advise, compare, diagnose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from studies.commands.options import (
    json_option,
    names_options,
    output_option,
    source_options,
    store_option,
    weights_option,
)
from studies.commands.running import exists, finish, make_terminal, open_cache, open_store, show


@click.command()
@click.argument("data")
@click.option("-b", "--backbone", "backbones", multiple=True, required=True, help="Transformer; may be repeated.")
@click.option("-p", "--variant", default="full-224", show_default=True, help="Preprocessing, by name or as a spec.")
@click.option("--samples", "n_samples", default=6, show_default=True, help="Images, spread over the classes.")
@click.option("--sample", "sample_ids", multiple=True, metavar="ID", help="Show this image; may be repeated.")
@click.option("--seed", default=0, show_default=True, help="Seed that draws the images.")
@click.option("--percentile", default=90.0, show_default=True, help="Percentile of a map at its contour.")
@click.option("--labels", "scheme", metavar="SCHEME", help="Label scheme; default: the dataset's first.")
@weights_option
@click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the weights.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("skyprobe-attention"), show_default=True)
@store_option
@json_option
def attention(output: Path, store: str | None, as_json: bool, **given: Any) -> None:
    """Draw where transformers look in images of DATA: by backbone, and by block and head."""
    from studies.report.attention import show_attention

    finish(
        show_attention(
            store=open_cache(store) if exists(store) else open_store(store, "a"),
            output=output,
            reporter=make_terminal(),
            **given,
        ),
        as_json,
    )


@click.command()
@click.argument("data")
@click.option("--labels", metavar="SCHEME", help="Label scheme; default: the dataset's first.")
@store_option
@json_option
def advise(data: str, labels: str | None, store: str | None, as_json: bool) -> None:
    """Say what to do next on DATA, from the runs in the store: each sentence with its rows, or what is not measured."""
    from studies.advice.advisor import advise as advise_on

    show(advise_on(open_store(store, "r"), data, make_terminal(), labels), as_json)


@click.command()
@click.argument("data")
@click.option("--labels", metavar="SCHEME", help="Label scheme; default: the dataset's first.")
@click.option("--fraction", type=int, help="Percent of the training labels; default: the largest.")
@click.option("--metric", default="f1", show_default=True, help="f1, precision, recall or accuracy.")
@click.option("--against", metavar="CONFIG", help="Reference, such as dinov2-s,linear; default: the best.")
@click.option("--target", type=float, help="Also say how many labels this score needs.")
@store_option
@output_option
@json_option
def compare(data: str, labels: str | None, store: str | None, as_json: bool, **options: Any) -> None:
    """Rank what the runs in the store measured on DATA, with ties, ablations and learning curves."""
    from studies.compare import compare_stored

    show(compare_stored(open_store(store, "r"), data, make_terminal(), labels, **options), as_json)


@click.command()
@names_options
@source_options
@click.option("--pooling", help="Pooling; default: the backbone's own.")
@click.option("--labels", metavar="SCHEME", help="Label scheme, or a mapping file; default: the dataset's first.")
@click.option("--columns", type=click.Path(path_type=Path), help="Your own quantities: CSV with sample_id and numbers.")
@click.option("--threshold", type=float, help="Cosine similarity of duplicates; default: from the data.")
@click.option("--outliers", default=20, show_default=True, help="Outliers that are listed.")
@store_option
@output_option
@json_option
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
    from studies.stages import open_features
    from studies.study_file.spec import make_study

    study, opened = make_study(**given), open_cache(store)
    options, terminal = DiagnosticsOptions(threshold=threshold, outliers=outliers), make_terminal()
    features, scheme = open_features(study, opened, terminal), study.probe.scheme
    found = diagnose_study(features, opened, terminal, output, scheme=scheme, options=options, columns=columns)
    finish(found, as_json)
