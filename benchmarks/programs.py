"""The programs of the benchmark: every module of this package that has a function `measure`; each runs by itself."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from benchmarks.channel import claim_stdout

HERE = Path(__file__).parent


class ProgramError(RuntimeError):
    """A program that stopped before its end; the message is the last line that it printed, or its exit code."""


def find_programs(folder: Path = HERE) -> list[str]:
    """Names of the modules of a package that define `measure`, sorted. None of them is imported: they are heavy."""
    modules = (module.name for module in pkgutil.iter_modules([str(folder)]))
    return sorted(name for name in modules if _measures(folder / f"{name}.py"))


def _measures(path: Path) -> bool:
    if not path.exists():  # a package
        return False
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return any(isinstance(node, ast.FunctionDef) and node.name == "measure" for node in body)


def run_program(name: str, folder: Path = HERE) -> Iterator[dict[str, Any]]:
    """The rows of one program of a package as it measures them, each with its name as `program`.

    A process of its own keeps imports, thread pools and memory from leaking from one program into the next.

    Raises:
        ProgramError: It failed.
    """
    command = [sys.executable, "-m", "benchmarks.programs", f"{folder.name}.{name}"]
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=folder.parent) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            yield {"program": name, **json.loads(line)}
        if process.wait():
            errors.seek(0)
            raise ProgramError(errors.read().strip().rpartition("\n")[2] or f"exit code {process.returncode}")


def _serve(module: str) -> None:
    """The child's part of `run_program`: one JSON line a row."""
    rows = claim_stdout()
    for row in import_module(module).measure():
        print(json.dumps(row.to_dict()), file=rows)


if __name__ == "__main__":
    _serve(sys.argv[1])
