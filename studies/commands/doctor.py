"""The command doctor."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from studies.commands.options import json_option, store_option
from studies.commands.running import show

if TYPE_CHECKING:
    from studies.doctor.finding import Finding


@click.command()
@click.option("-b", "--backbone", "backbones", multiple=True, help="Look for the weights of this one; may be repeated.")
@click.option("--torch", "load_torch", is_flag=True, help="Also load torch, and compute something on every device.")
@store_option
@json_option
def doctor(backbones: tuple[str, ...], load_torch: bool, store: str | None, as_json: bool) -> None:
    """Say what this machine has and lacks, and the command that mends it.

    Looks at processor, memory, GPU, libraries, weights, caches, the store and the network, in seconds. Exit code 1
    where something is broken; what only some commands would miss is a note.
    """
    from studies.doctor.examination import examine

    findings = examine(store, backbones, load_torch=load_torch)
    if as_json:
        show(findings, as_json)
    else:
        _show_text(findings)
    if any(one.state == "broken" for one in findings):
        sys.exit(1)


def _show_text(findings: Sequence[Finding]) -> None:
    """A table of what there is, then what can be done: commands are longer than a column."""
    show([{"part": one.part, "state": one.state, "found": one.found} for one in findings], as_json=False)
    if mended := {one.part: one.mend for one in findings if one.mend}:
        click.echo("\nWhat helps:")
        show(mended, as_json=False)
