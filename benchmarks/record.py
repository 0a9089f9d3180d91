"""What was measured, kept: results/latest.json is the list of rows, results/machine.json says where and when."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from featurestore.versions import installed_versions
from featurestore.workers import count_processors

RESULTS = Path(__file__).parent / "results"
LIBRARIES = (
    *("torch", "torchvision", "timm", "transformers", "openvino", "numpy", "scikit-learn", "numba", "umap-learn"),
    *("zarr", "zarrs", "pillow", "simplejpeg"),
)


def read_rows(folder: Path = RESULTS) -> list[dict[str, Any]]:
    """The rows of latest.json; none where nothing was measured yet."""
    path = folder / "latest.json"
    rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return rows


def replace_rows(program: str, rows: Sequence[dict[str, Any]], folder: Path = RESULTS) -> None:
    """Put `rows` in place of what a program measured before; those of the others stay, sorted by program."""
    kept = [row for row in read_rows(folder) if row["program"] != program]
    runs = read_machine(folder).get("runs", {}) | {program: {"date": _today(), "commit": _commit()}}
    _save([*kept, *rows], runs, folder)


def forget_programs(known: Sequence[str], folder: Path = RESULTS) -> None:
    """Drop the rows of programs that no longer exist; without any, nothing is written."""
    rows, runs = read_rows(folder), read_machine(folder).get("runs", {})
    if not runs.keys() <= set(known):
        kept = {program: run for program, run in runs.items() if program in known}
        _save([row for row in rows if row["program"] in known], kept, folder)


def read_machine(folder: Path = RESULTS) -> dict[str, Any]:
    """What machine.json says; empty where nothing was measured yet."""
    path = folder / "machine.json"
    machine: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return machine


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory in GB, Python, and versions of the libraries that are installed."""
    return {
        "processor": _processor(),
        "cores": count_processors(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": installed_versions(LIBRARIES),
    }


def _processor() -> str:
    """Name of the processor, as Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    """Abbreviated commit, with ``+`` where the working tree differs; empty outside a repository."""
    command = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=RESULTS.parent)
    return done.stdout.strip()


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _save(rows: Sequence[dict[str, Any]], runs: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {
        "latest.json": sorted(rows, key=lambda row: str(row["program"])),
        "machine.json": describe_machine() | {"runs": dict(sorted(runs.items()))},
    }
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
