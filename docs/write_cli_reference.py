"""Write docs/cli.md from the commands themselves; `make docs` runs this, and a test holds the file against them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from cli import main

HEAD = """# Command reference

Written by `make docs` from the commands' own help. Exit codes: 0 done, 1 failed, 2 usage, 3 done but some images are
unreadable, 130 and 143 stopped by Ctrl-C and SIGTERM. Data goes to stdout, progress and notices to stderr; `--json`
prints results for scripts.
"""


def reference() -> str:
    """The whole page, Markdown."""
    return "\n".join([HEAD, *_sections()])


def _sections() -> Iterator[str]:
    # With the command's own settings: click keeps the help option of whichever context asks first.
    yield from _describe(main, click.Context(main, info_name="skyprobe", terminal_width=100, **main.context_settings))


def _describe(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.commands[name]
        own = click.Context(command, parent=context, info_name=name, terminal_width=100)
        yield f"## {own.command_path}\n\n```\n{command.get_help(own)}\n```\n"
        if isinstance(command, click.Group):
            yield from _describe(command, own)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(reference(), encoding="utf-8")
