"""Reading features and probing them must start fast: no model library is loaded before it is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "torchvision", "timm", "transformers", "open_clip", "openvino", "sklearn", "umap", "matplotlib"}


@pytest.mark.parametrize(
    "modules",
    [
        "featurestore",
        "probes",
        "featurestore.registry, featurestore.store.key, featurestore.samples, featurestore.store.features",
        "featurestore.preprocessing",
        "featurestore.extraction.requests",
    ],
)
def test_importing_loads_no_heavy_library(modules: str) -> None:
    code = f"import sys, {modules}; print(*sorted(set(sys.modules) & {HEAVY}))"
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


GOLDEN = "tests/featurestore/store/golden/format-1"


@pytest.mark.parametrize(
    "words",
    [
        "ls",
        "info galaxies",
        "explain galaxies",
        "verify",
        "export galaxies {file}.npz",
        "rm galaxies --yes --key none",
        "doctor",
    ],
)
def test_store_commands_load_neither_probes_nor_tables_nor_models(words: str, tmp_path: Path) -> None:
    arguments = [*words.format(file=tmp_path / "x").split(), "--store", GOLDEN]
    code = f"""
import sys
from cli import main
try:
    main({arguments!r}, standalone_mode=False)
finally:
    print("loaded:", *sorted(set(sys.modules) & {HEAVY | {"pandas", "astropy", "scipy", "pyarrow", "PIL"}}))
"""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0 or "not in the store" in run.stderr, run.stderr
    assert run.stdout.splitlines()[-1] == "loaded:", run.stdout
