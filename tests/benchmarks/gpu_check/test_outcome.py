from __future__ import annotations

import math

import pytest

from benchmarks.gpu_check.outcome import Figure, StepResult, format_results


@pytest.mark.parametrize(
    ("figure", "passed", "demand"),
    [
        (Figure("rate", 5.0), True, ""),
        (Figure("rate", 5.0, 4.0), True, ">= 4"),
        (Figure("rate", 3.0, 4.0), False, ">= 4"),
        (Figure("difference", 1e-5, 1e-4, at_most=True), True, "<= 0.0001"),
        (Figure("difference", 1e-3, 1e-4, at_most=True), False, "<= 0.0001"),
        (Figure("difference", math.nan, 1e-4, at_most=True), False, "<= 0.0001"),
        (Figure("rate", math.nan, 4.0), False, ">= 4"),
        (Figure("equal bytes", True, limit=True), True, "True"),
        (Figure("equal bytes", False, limit=True), False, "True"),
        (Figure("precision", "bf16"), True, ""),
    ],
)
def test_demands(figure: Figure, passed: bool, demand: str) -> None:
    assert (figure.passed, figure.demand) == (passed, demand)


def test_a_step_passes_with_all_of_its_figures() -> None:
    good, bad = Figure("a", 2.0, 1.0), Figure("b", 0.5, 1.0)
    assert StepResult("s", 1.234, [good]).to_dict() == {
        "name": "s", "seconds": 1.23, "values": {"a": 2.0}, "limit": {"a": ">= 1"}, "passed": True,
    }  # fmt: skip
    assert not StepResult("s", 1.0, [good, bad]).passed
    assert not StepResult("s", 1.0, [good], error="RuntimeError: no").passed
    assert StepResult("s", 1.0, skipped="no CuPy").to_dict()["skipped"] == "no CuPy"


def test_the_table_says_what_was_missed() -> None:
    results = [
        StepResult("forwards", 2.0, [Figure("ViT-B, images/s", 7000.0, 8000.0)]),
        StepResult("solver", 0, skipped="no CuPy"),
    ]
    lines = format_results(results).splitlines()
    assert lines[0].split()[:2] == ["forwards", "FAILED"]
    assert lines[1].endswith(">= 8000  <- missed")
    assert lines[2].split()[:2] == ["solver", "skipped"]
    assert lines[2].endswith("no CuPy")
