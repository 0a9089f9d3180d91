"""The command ``skyprobe``: each verb parses, makes one library call, prints. Data on stdout, progress on stderr.

The verbs are in `studies.commands`; here they become one command with one way to fail.
"""

from __future__ import annotations

import signal
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from studies.commands import analysis, doctor, extraction, listing, probing, slurm, stores, training
from studies.commands.running import make_terminal, typed_command
from studies.commands.stopping import stop_on_signals

_FORMER_COMMANDS = {"look": "diagnose"}


class _Group(click.Group):
    """Turns skyprobe's errors into one line and an exit code: 2 for a request that makes no sense, else 1."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name, or of this former name, which is told."""
        if present := _FORMER_COMMANDS.get(cmd_name):
            make_terminal().notice(
                f"skyprobe {cmd_name} is called skyprobe {present} now; the former name still works."
            )
        return super().get_command(ctx, present or cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        from featurestore.errors import SkyprobeError, UnknownNameError, UsageError

        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_show_warning, warnings.showwarning)
                with stop_on_signals():
                    return super().invoke(ctx)
        except SkyprobeError as error:
            make_terminal().notice(f"skyprobe: {error}")
            ctx.exit(2 if isinstance(error, UsageError | UnknownNameError) else 1)
        except KeyboardInterrupt as interrupt:
            number = interrupt.args[0] if interrupt.args else signal.SIGINT
            click.echo(
                f"skyprobe: stopped by {signal.Signals(number).name}; what is done is stored. To go on (training: with "
                f"--resume), run: {typed_command()}",
                err=True,
            )
            ctx.exit(128 + number)


def _show_warning(show: Callable[..., None], message: Warning, category: type[Warning], *place: Any) -> None:
    """A former name is told in one line, other warnings as usual."""
    from featurestore.errors import FormerNameWarning

    if issubclass(category, FormerNameWarning):
        click.echo(f"skyprobe: {message}", err=True)
    else:
        show(message, category, *place)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="skyprobe")
def main() -> None:
    """Extract the embeddings of frozen vision models once, then probe them many times.

    DATA is a path, whose kind is detected, or a shortcut: first, galaxy_mnist:PATH, rgz:PATH, or any KIND:PATH of
    `skyprobe datasets`; with ,groups=sky:RADIUS (arcsec) at its end, neighbours on the sky stay in one split; with
    ,labels=COLUMN,split=COLUMN,file=COLUMN,catalogue=PATH the columns of a catalogue are chosen. Exit
    codes: 0 done, 1 failed, 2 usage, 3 done but some images are unreadable, 130 or 143 stopped by Ctrl-C or SIGTERM.
    """


for _command in (
    *(extraction.demo, extraction.run, extraction.extract, slurm.slurm),
    *(probing.probe, probing.report, probing.umap, probing.predict),
    *(analysis.attention, analysis.advise, analysis.compare, analysis.diagnose),
    *(training.finetune, training.detect),
    *(stores.list_features, stores.info, stores.explain, stores.verify, stores.remove, stores.export),
    doctor.doctor,
    *(stores.migrate, stores.gc),
    *(listing.list_backbones, listing.list_datasets, listing.list_variants),
):
    main.add_command(_command)
