"""A sampled mutation run: what share of small faults, put into the code one by one, do its tests notice?

cosmic-ray makes the mutants. Its own runner changes the work tree and has no samples; here a copy is changed, in which
the mirrored test file runs first, and the tests of the whole folder only where that one noticed nothing.

    python tests/mutants.py --places 40 --seed 0
"""

from __future__ import annotations

import argparse
import ast
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes/statistics", "probes/diagnostics", "featurestore/store")
COPIED = ("featurestore", "probes", "finetune", "studies", "tests", "cli.py", "skyprobe.py", "pyproject.toml")
SECONDS = 300
"""A mutant whose tests run longer loops, and counts as noticed."""

LEAST = 0.9
"""Share of the mutants that have to be noticed."""


class Mutant(NamedTuple):
    """One fault: the file, what was done, where, and the code with it."""

    file: str
    operator: str
    line: int
    code: str

    def __str__(self) -> str:
        before = (ROOT / self.file).read_text().splitlines()
        after = self.code.splitlines()
        changed = next((new for old, new in zip(before, after, strict=False) if old != new), "")
        return f"{self.file}:{self.line} {self.operator}: {changed.strip()}"


def list_mutants(file: str, random: Random) -> Iterator[Mutant]:
    """One mutant for each place of a file and each kind of change there, such as that of a comparison."""
    path, places = ROOT / file, {}
    tree, code = get_ast_from_path(path), path.read_text()
    nodes = list(ast_nodes(tree))
    for name in sorted(operator_names()):
        operator = get_operator(name)
        if operator.arguments():
            continue
        positions = [start for node in nodes for start, _ in operator().mutation_positions(node)]
        for occurrence, start in enumerate(positions):
            kind = "_".join(name.removeprefix("core/").split("_")[:2])
            places.setdefault((start, kind), []).append((name, occurrence))
    for (start, _), choices in places.items():
        name, occurrence = random.choice(choices)
        mutated = mutate_code(code, get_operator(name)(), occurrence)
        if mutated and _meaning(mutated) not in (None, _meaning(code)):
            yield Mutant(file, name.removeprefix("core/"), start[0], mutated)


def sample_mutants(folder: str, most: int, seed: int) -> list[Mutant]:
    """At most so many mutants of a folder, the same ones for the same seed."""
    random = Random(f"{folder} {seed}")
    files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py"))
    every = [mutant for file in files for mutant in list_mutants(file, random)]
    return random.sample(every, min(most, len(every)))


def is_noticed(mutant: Mutant, copy: Path) -> bool:
    """Whether a test fails on the mutant, in a copy of the project."""
    path = copy / mutant.file
    whole, mirrored = path.read_text(), Path("tests", mutant.file).with_name(f"test_{path.name}")
    path.write_text(mutant.code)
    try:
        tests = [str(place) for place in (mirrored, mirrored.parent) if (copy / place).exists()]
        return any(_fails(place, copy) for place in tests)
    finally:
        path.write_text(whole)


def run(mutants: list[Mutant], n_copies: int) -> list[Mutant]:
    """The mutants that no test notices."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(n_copies) as workers:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(n_copies):
            copies.put(_copy(Path(folder, str(number))))

        def judge(mutant: Mutant) -> bool:
            copy = copies.get()
            try:
                return is_noticed(mutant, copy)
            finally:
                copies.put(copy)

        noticed = workers.map(judge, mutants)
        return [mutant for mutant, found in zip(mutants, noticed, strict=True) if not found]


def _fails(tests: str, copy: Path) -> bool:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, timeout=SECONDS, check=False
        ).returncode != 0  # fmt: skip
    except subprocess.TimeoutExpired:
        return True


def _copy(folder: Path) -> Path:
    folder.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, folder)
    return folder


def _meaning(code: str) -> str | None:
    """The code without what changes no result; None if it is not Python.

    Annotations and their imports are not read while it runs, and ``strict`` of zip raises in wrong code alone.
    """
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(0)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.test, node.body = ast.Constant(0), [ast.Pass()]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "zip":
            node.keywords = []
    return ast.dump(tree)


def main() -> int:
    """Run the sample of each folder and print its survivors; 1 if too many mutants live."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--places", type=int, default=40, help="mutants of each folder at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", type=int, default=2, help="mutants that are tried at a time")
    parser.add_argument("folders", nargs="*", default=FOLDERS)
    options = parser.parse_args()
    shares = []
    for folder in options.folders:
        mutants = sample_mutants(folder, options.places, options.seed)
        alive = run(mutants, options.copies)
        shares.append(1 - len(alive) / len(mutants))
        print(f"{folder}: {len(mutants) - len(alive)} of {len(mutants)} mutants noticed ({shares[-1]:.2f})", flush=True)
        for mutant in alive:
            print(f"  alive: {mutant}", flush=True)
    return int(min(shares) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
