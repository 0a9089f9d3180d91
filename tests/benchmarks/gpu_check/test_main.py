"""A short rehearsal on the CPU; the steps that start processes are rehearsed by ``make test-device``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_check import __main__ as program
from benchmarks.gpu_check.outcome import Figure
from benchmarks.gpu_check.setting import Setting, Skipped

PROCESSES = ["machine", "extraction", "recovery"]


def run(tmp_path: Path, *words: str) -> tuple[int, dict[str, Any]]:
    path = tmp_path / "check.json"
    code = program.main(["--short", "--device", "cpu", "--json", str(path), *words])
    return code, json.loads(path.read_text())


def test_a_rehearsal_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("peft")
    code, found = run(tmp_path, "--skip", *PROCESSES)
    assert code == 0, found
    assert found["passed"] is True
    assert found["device"] == "cpu"
    assert {"python", "torch", "skyprobe"} <= found["versions"].keys()
    skipped = {step["name"]: step["skipped"] for step in found["steps"] if "skipped" in step}
    assert skipped == dict.fromkeys(PROCESSES, "by --skip") | {
        "memory": "the memory of cpu cannot be limited",
        "solver": "CuPy is not installed, or finds no device",
    }
    (fidelity,) = (step for step in found["steps"] if step["name"] == "fidelity")
    assert fidelity["values"]["timm:test_vit fp32, relative to the CPU"] < 1e-5
    assert fidelity["limit"]["timm:test_vit fp32, relative to the CPU"] == "<= 0.0001"
    assert capsys.readouterr().out.startswith("cpu (cpu): passed")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Steps that pass, fail, break off and are left out."""

    def good(_: Setting) -> Iterator[Figure]:
        yield Figure("a", 2.0, 1.0)

    def broken(_: Setting) -> Iterator[Figure]:
        yield Figure("a", 2.0, 1.0)
        raise RuntimeError("the device is gone\nand more")

    def absent(_: Setting) -> Iterator[Figure]:
        raise Skipped("no CuPy")
        yield

    made = {"good": good, "broken": broken, "absent": absent}
    monkeypatch.setattr(program, "STEPS", made)
    return made


def test_a_step_that_breaks_off_fails_and_keeps_its_figures(tmp_path: Path, steps: Any) -> None:
    code, found = run(tmp_path)
    good, broken, absent = found["steps"]
    assert code == 1
    assert good["passed"]
    assert (broken["passed"], broken["values"], broken["error"]) == (
        False,
        {"a": 2.0},
        "RuntimeError: the device is gone",
    )
    assert absent["skipped"] == "no CuPy"
    assert run(tmp_path, "--skip", "broken")[0] == 0


def test_no_step_starts_after_the_deadline(tmp_path: Path, steps: Any) -> None:
    code, found = run(tmp_path, "--deadline", "-1")
    assert code == 0
    assert {step["skipped"] for step in found["steps"]} == {"the deadline of -1 s has passed"}
