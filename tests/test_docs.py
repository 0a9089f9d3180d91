"""What the documents say, compared with the code."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

from cli import main

ROOT = Path(__file__).parents[1]
COMMAND = re.compile(r"^(?:\$ )?(skyprobe [^#\n|]*)", re.MULTILINE)


def documented_commands():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        for command in COMMAND.findall("\n".join(blocks).replace("\\\n", " ")):
            yield pytest.param(command.split(), id=f"{page.name}: {command.strip()[:60]}")


def test_the_command_reference_is_current():
    spec = importlib.util.spec_from_file_location("write_cli_reference", ROOT / "docs" / "write_cli_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    current = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert current == module.reference(), "run: make docs"


@pytest.mark.parametrize("words", list(documented_commands()))
def test_documented_commands_exist_with_their_options(words):
    command = main.commands.get(words[1]) or main
    command = getattr(command, "commands", {}).get(words[2] if len(words) > 2 else "") or command
    known = {option for parameter in [*command.params, *main.params] for option in parameter.opts} | {"--help", "-h"}
    if words[1] == "slurm":  # which takes the words of another command
        known |= {option for parameter in main.commands["extract"].params for option in parameter.opts}
    given = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
    assert words[1] in main.commands or words[1].startswith("-")
    assert given <= known


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert {"demo", "test"} <= named <= targets


def test_every_entry_point_of_the_project_can_be_loaded():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for group in project["entry-points"].values():
        for target in group.values():
            module, _, name = target.partition(":")
            assert hasattr(importlib.import_module(module), name), target


def test_relative_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
