"""Commands on a store: ls, info, explain, verify, migrate, gc, rm, export."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from studies.commands.options import json_option, selection_options, store_option
from studies.commands.running import exists, find, make_terminal, open_existing, open_store, show

if TYPE_CHECKING:
    from featurestore.extraction.audit import Audit
    from featurestore.store import FeatureStore


@click.command("ls")
@store_option
@json_option
def list_features(store: str | None, as_json: bool) -> None:
    """List the features that the store holds."""
    from featurestore.store.inventory import list_store

    show(list_store(open_store(store, "r")), as_json)


@click.command()
@selection_options
@json_option
def info(as_json: bool, **selection: Any) -> None:
    """Show keys, provenance, rows by state, and unreadable images with their reasons."""
    from featurestore.store.inventory import describe

    show([describe(entry) for entry in find("r", **selection)[1]], as_json)


@click.command()
@selection_options
@json_option
def explain(as_json: bool, **selection: Any) -> None:
    """Say which fields differ between the keys that a request could mean."""
    from featurestore.store.inventory import explain_keys

    show(explain_keys(find("r", **selection)[1]), as_json)


@click.command()
@store_option
@click.option("--repair", is_flag=True, help="Forget damaged blocks, and sweep what killed processes left behind.")
@click.option("--audit", "n_rows", type=int, metavar="N", help="Also embed N random rows of DATA again and compare.")
@click.option("--data", help="The dataset, for --audit.")
@json_option
def verify(store: str | None, repair: bool, n_rows: int | None, data: str | None, as_json: bool) -> None:
    """Read everything in the store again, and compare it with its checksums."""
    from featurestore.store.verify import verify as verify_store

    if n_rows and not data:
        raise click.UsageError("--audit needs --data DATA: the images to embed again")
    opened = open_store(store, "a" if repair and exists(store) else "r")
    problems = verify_store(opened, repair=repair)
    audits = _audit(opened, data, n_rows) if n_rows and data else []
    show({"problems": problems, "audits": audits}, as_json)
    if any(not problem.repaired for problem in problems) or any(one.wrong for one in audits):
        sys.exit(1)


def _audit(store: FeatureStore, data: str, n_rows: int) -> list[Audit]:
    from studies.stages import audit_features

    return audit_features(store, data, n_rows)


@click.command()
@store_option
@json_option
def migrate(store: str | None, as_json: bool) -> None:
    """Turn a store of an older format version into one of the present; features stay where they are."""
    from featurestore.store.upkeep.migration import migrate as migrate_store

    open_store(store, "r")
    show(migrate_store(store), as_json)


@click.command()
@store_option
@click.option("--dry-run", is_flag=True, help="Only list it.")
@json_option
def gc(store: str | None, dry_run: bool, as_json: bool) -> None:
    """Delete what nothing in the store refers to: old revisions, results of removed features, leftovers of kills."""
    from featurestore.store.upkeep.garbage import collect_garbage

    opened = open_store(store, "r") if dry_run else open_existing(store)
    show(collect_garbage(opened, dry_run=dry_run), as_json)


@click.command("rm")
@selection_options
@click.option("--yes", is_flag=True, help="Do not ask.")
def remove(yes: bool, **selection: Any) -> None:
    """Delete features from the store, with the runs, saved heads and projections that were computed from them."""
    store, found = find("a", **selection)
    for entry in found:
        kinds = Counter(kind for kind, _ in store.dependants(entry))
        cached = "".join(f", {kind} {count}" for kind, count in sorted(kinds.items()))
        click.echo(f"{entry.dataset} {entry.variant} {entry.backbone} {entry.key.short}{cached}", err=True)
    if not yes:
        click.confirm(f"Delete these {len(found)}?", abort=True, err=True)
    for entry in found:
        store.remove(entry)


@click.command()
@selection_options
@click.option("--pooling", help="Pooling; default: the one first stored.")
@click.argument("file", type=click.Path(path_type=Path))
def export(file: Path, pooling: str | None, **selection: Any) -> None:
    """Write one feature matrix to FILE: .parquet, .npz or .h5ad (AnnData)."""
    from studies.export import export_features
    from studies.sources import refresh

    store, found = find("r", **selection)
    refresh(store, selection["data"], make_terminal())
    if len(found) > 1:
        raise click.UsageError(f"{len(found)} feature matrices match; choose by -b, -p or --key (see skyprobe ls)")
    click.echo(export_features(found[0].read(pooling), file))
