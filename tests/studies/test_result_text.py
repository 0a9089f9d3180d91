"""Every kind of result as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from featurestore.extraction.embedding import Costs
from featurestore.extraction.estimate import Estimate
from featurestore.extraction.extract import Extracted, ExtractionReport
from featurestore.store import open_store
from featurestore.store.entry import DONE, UNREADABLE, Block
from studies.result import StudyResult
from studies.result_text import to_text
from studies.terminal import to_json


@pytest.fixture
def report(tmp_path, make_table, make_key):
    """An extraction of 3 images, one of which is unreadable."""
    store = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=4)
    table = make_table([0, 1, 0])
    store.put_dataset(table)
    arrays = store.create("toy", "full-224", "net_b", make_key(), {"cls": (2,)}, {})
    state = np.array([DONE, UNREADABLE, DONE], np.uint8)
    content, reasons = np.zeros((3, 16), np.uint8), {1: "the file is empty"}
    arrays.write_block(
        0,
        Block(
            {"cls": np.ones((3, 2), np.float32)},
            state,
            content,
            table.fingerprints,
            reasons,
            sample_hashes=table.id_hashes,
        ),
    )
    costs = Costs(load=3.5, decode=1.25, preprocess=0.5, forward=2.0, write=0.125, images=1234, forwards=2468)
    features = (Extracted(arrays, 3, arrays.unreadable()),)
    return ExtractionReport("toy", store.path, features, costs, 2.0)


def test_an_extraction_as_text(report):
    key = report.features[0].entry.key.short
    assert to_text(report).splitlines() == [
        "toy: 1,234 images decoded, 2,468 forwarded in 2.0 s (1,234 a second)",
        "  load models 3.5 s; summed over workers: decode 1.2 s, preprocess 0.5 s, forward 2.0 s, write 0.1 s",
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
    assert features["entry"]["key"] == report.features[0].entry.key.short
    assert features["entry"]["unreadable"] == 1


def test_an_estimate():
    estimate = Estimate("toy", 1000, 3000, 12_345_678, 61.4)
    assert to_text(estimate) == "toy: 1,000 images to decode, 3,000 forwards, 12.3 MB to store, about 61 s"
    assert json.loads(to_json(estimate)) == {
        "dataset": "toy", "images": 1000, "forwards": 3000, "bytes": 12_345_678, "seconds": 61.4,
    }  # fmt: skip


def test_an_outcome_as_text_and_json():
    result = StudyResult(
        tables=("a table",),
        files={"results.csv": Path("out/results.csv")},
        heads={"abc": "linear on net_b"},
        seconds={"probe": 1.26, "report": 0.5},
        unreadable={f"s{row}": "cut off" for row in range(12)},
    )
    text = to_text(result)
    for line in ("a table", "Saved head abc: linear on net_b", "  out/results.csv", "Took: probe 1.3 s, report 0.5 s"):
        assert line in text.splitlines()
    shown = json.loads(to_json(result))
    assert shown["files"] == {"results.csv": "out/results.csv"}
    assert shown["tables"] == ["a table"]
    assert len(shown["unreadable"]) == 12


@pytest.mark.parametrize(("n", "more"), [(10, None), (13, "  and 3 more: skyprobe info lists them")])
def test_long_lists_of_unreadable_images_are_cut(n, more):
    result = StudyResult(seconds={"probe": 1.0}, unreadable={f"s{row:02d}": "cut off" for row in range(n)})
    lines = to_text(result).splitlines()
    assert lines[0] == f"{n} images are unreadable:"
    assert lines[1:11] == [f"  s{row:02d}: cut off" for row in range(10)]
    assert lines[11] == (more or "")


def test_an_outcome_with_an_extraction_lists_unreadable_images_once(report):
    result = StudyResult(extractions=(report,), seconds={"probe": 1.0}, unreadable=report.unreadable)
    assert to_text(result).count("s001: the file is empty") == 1


def test_rows_and_records_are_shown_as_the_terminal_shows_them():
    assert to_text([{"name": "a"}]) == "name\na"
    assert to_text({"name": "a"}) == "name: a"
