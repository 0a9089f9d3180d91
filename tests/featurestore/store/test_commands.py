from __future__ import annotations

import shlex

import click
import pytest

import cli
from featurestore.backbones.catalogue import find_spec
from featurestore.store.commands import EXAMPLE, extract_command


def parse(command: str) -> dict[str, object]:
    """What the command line understands."""
    program, name, *words = shlex.split(command)
    assert program == "skyprobe"
    found = cli.main.get_command(click.Context(cli.main), name)
    return found.make_context(name, words).params


def test_the_command_line_takes_what_is_written() -> None:
    options = {"pooling": ("cls", "patches"), "precision": "bf16", "weights": None, "revision": "main"}
    given = parse(extract_command("my sky/", "dinov2-s@6", "resize=96,crop=box:0.2", "a store.zarr", options))
    expected = {
        "data": "my sky/",
        "backbones": ("dinov2-s@6",),
        "variants": ("resize=96,crop=box:0.2",),
        "poolings": ("cls", "patches"),
        "precision": "bf16",
        "weights": None,
    }
    assert expected.items() <= given.items()
    assert str(given["store"]).endswith("a store.zarr")


@pytest.mark.parametrize("options", [{}, {"engine": "torch", "device": "cpu", "dtype": "float32"}])
def test_a_variant_that_nobody_named_is_the_default(options: dict[str, str]) -> None:
    assert parse(extract_command("sky", EXAMPLE, "", "s", options))["variants"] == ("full-224",)
    assert find_spec(EXAMPLE).name == EXAMPLE
