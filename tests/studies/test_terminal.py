"""Text and JSON of every result; progress and notices stay away from stdout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from featurestore.extraction.audit import Audit
from featurestore.extraction.embedding import Costs
from featurestore.extraction.estimate import Estimate
from featurestore.extraction.extract import Extracted, ExtractionReport
from featurestore.store import open_store
from featurestore.store.entry import DONE, UNREADABLE, Block
from studies.result import StudyResult
from studies.terminal import Terminal, to_json, to_text


@pytest.fixture
def report(tmp_path, make_table, make_key):
    """An extraction of 3 images, one of which is unreadable."""
    store = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=4)
    table = make_table([0, 1, 0])
    store.put_dataset(table)
    arrays = store.create("toy", "full-224", "net_b", make_key(), {"cls": (2,)}, {})
    state = np.array([DONE, UNREADABLE, DONE], np.uint8)
    content, reasons = np.zeros((3, 16), np.uint8), {1: "the file is empty"}
    arrays.write_block(0, Block({"cls": np.ones((3, 2), np.float32)}, state, content, table.stamps, reasons))
    costs = Costs(load=3.5, decode=1.25, preprocess=0.5, forward=2.0, write=0.125, images=1234, forwards=2468)
    features = (Extracted(arrays, 3, arrays.unreadable()),)
    return ExtractionReport("toy", store.path, features, costs, 2.0)


def test_an_extraction_as_text(report):
    key = report.features[0].arrays.key.short
    assert to_text(report).splitlines() == [
        "toy: 1,234 images decoded, 2,468 forwarded in 2.0 s (1,234 a second)",
        "  load models 3.5 s; summed over lanes: decode 1.2 s, preprocess 0.5 s, forward 2.0 s, write 0.1 s",
        f"  full-224  net_b  {key}: 3 embedded now, 2 stored, 1 unreadable",
        "1 images are unreadable:",
        "  s001: the file is empty",
        f"Store: {report.store}",
    ]


def test_an_extraction_as_json(report):
    shown = json.loads(to_json(report))
    assert shown["costs"]["forwards"] == 2468
    assert shown["unreadable"] == {"s001": "the file is empty"}
    (features,) = shown["features"]
    assert features["arrays"]["key"] == report.features[0].arrays.key.short
    assert features["arrays"]["unreadable"] == 1


def test_an_estimate():
    estimate = Estimate("toy", 1000, 3000, 12_345_678, 61.4)
    assert to_text(estimate) == "toy: 1,000 images to decode, 3,000 forwards, 12.3 MB to store, about 61 s"
    assert json.loads(to_json(estimate)) == {
        "dataset": "toy", "images": 1000, "forwards": 3000, "bytes": 12_345_678, "seconds": 61.4,
    }  # fmt: skip


def test_an_outcome_as_text_and_json():
    outcome = StudyResult(
        tables=("a table",),
        files={"results.csv": Path("out/results.csv")},
        heads={"abc": "linear on net_b"},
        seconds={"probe": 1.26, "report": 0.5},
        unreadable={f"s{row}": "cut off" for row in range(12)},
    )
    text = to_text(outcome)
    for line in ("a table", "Saved head abc: linear on net_b", "  out/results.csv", "Took: probe 1.3 s, report 0.5 s"):
        assert line in text.splitlines()
    shown = json.loads(to_json(outcome))
    assert shown["files"] == {"results.csv": "out/results.csv"}
    assert shown["tables"] == ["a table"]
    assert len(shown["unreadable"]) == 12


@pytest.mark.parametrize(("n", "more"), [(10, None), (13, "  and 3 more: skyprobe info lists them")])
def test_long_lists_of_unreadable_images_are_cut(n, more):
    outcome = StudyResult(seconds={"probe": 1.0}, unreadable={f"s{row:02d}": "cut off" for row in range(n)})
    lines = to_text(outcome).splitlines()
    assert lines[0] == f"{n} images are unreadable:"
    assert lines[1:11] == [f"  s{row:02d}: cut off" for row in range(10)]
    assert lines[11] == (more or "")


def test_an_outcome_with_an_extraction_lists_unreadable_images_once(report):
    outcome = StudyResult(extractions=(report,), seconds={"probe": 1.0}, unreadable=report.unreadable)
    assert to_text(outcome).count("s001: the file is empty") == 1


def test_simple_rows_are_a_table():
    rows = [{"name": "a", "rows": 12345, "whole": True}, {"name": "long name", "rows": 7, "whole": False}]
    assert to_text(rows).splitlines() == [
        "name       rows    whole",
        "a          12,345  True",
        "long name  7       False",
    ]
    assert to_text([]) == "Nothing."


def test_nested_rows_stand_one_after_the_other():
    rows = [{"name": "a", "key": {"dtype": "float16", "mean": [0.5, 0.25]}}, {"name": "b", "key": {}}]
    assert to_text(rows) == "name: a\nkey:\n  dtype: float16\n  mean:\n    0.5\n    0.25\n\nname: b\nkey: none"


def test_a_verification_shows_audits_and_that_there_are_no_problems():
    value = {"problems": [], "audits": [Audit("toy/cls", 4, 0.5, ("s001",))]}
    assert to_text(value).splitlines() == [
        "problems: none", "audits:", "  features: toy/cls", "  rows: 4", "  largest: 0.5", "  wrong:", "    s001",
    ]  # fmt: skip
    assert json.loads(to_json(value))["audits"][0]["wrong"] == ["s001"]


def test_numpy_values_and_numbers_that_json_lacks():
    @dataclass
    class Result:
        count: np.int64
        share: np.float32
        row: np.ndarray
        lost: float

        @property
        def double(self):
            return self.count * 2

    shown = json.loads(
        to_json(Result(np.int64(3), np.float32(0.5), np.arange(2), float("nan"))), parse_constant=pytest.fail
    )
    assert shown == {"count": 3, "share": 0.5, "row": [0, 1], "lost": "nan", "double": 6}


def test_progress_and_notices_go_to_stderr_alone(capsys):
    terminal = Terminal()
    terminal.notice("for scholars")
    terminal.notice("")
    show = terminal.progress("extract toy")
    assert "extract toy" not in capsys.readouterr().err, "a bar appears with its first step"
    for done in (3, 7, 10):
        show(done, 10)
    shown = capsys.readouterr()
    assert shown.out == ""
    last = shown.err.rstrip("\n").rpartition("\r")[2]
    assert "extract toy" in last
    assert "100%" in last and "10/10" in last
    assert shown.err.endswith("\n"), "a full bar is ended"


def test_a_notice_is_one_line_and_the_empty_one_none(capsys):
    Terminal().notice("")
    assert capsys.readouterr().err == ""
    Terminal().notice("for scholars")
    assert capsys.readouterr() == ("", "for scholars\n")
