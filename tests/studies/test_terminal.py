"""Plain values as text and JSON; progress and notices stay away from stdout."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from featurestore.extraction.audit import Audit
from studies.terminal import Terminal, to_json, to_lines, to_table


def test_simple_rows_are_a_table():
    rows = [{"name": "a", "rows": 12345, "whole": True}, {"name": "long name", "rows": 7, "whole": False}]
    assert to_table(rows).splitlines() == [
        "name       rows    whole",
        "a          12,345  True",
        "long name  7       False",
    ]
    assert to_table([]) == "Nothing."


def test_names_cannot_move_the_cursor_or_pass_for_lines(capsys):
    name = "\x1b[2Jgone\nskyprobe: all is well\u202e"
    shown = "\\x1b[2Jgone\\nskyprobe: all is well\\u202e"
    assert to_lines({name: name}) == f"{shown}: {shown}"
    assert shown in to_table([{"name": name}])
    Terminal().notice(f"of {name}")
    Terminal().progress(name)(1, 1)
    err = capsys.readouterr().err
    assert "of \\x1b[2Jgone\nskyprobe: all is well\\u202e" in err  # a notice may have several lines
    assert f"{shown}: 100%" in err
    assert "\x1b[2J" not in err
    assert "\u202e" not in err


def test_nested_rows_stand_one_after_the_other():
    rows = [{"name": "a", "key": {"dtype": "float16", "mean": [0.5, 0.25]}}, {"name": "b", "key": {}}]
    assert to_table(rows) == "name: a\nkey:\n  dtype: float16\n  mean:\n    0.5\n    0.25\n\nname: b\nkey: none"


def test_a_verification_shows_audits_and_that_there_are_no_problems():
    value = {"problems": [], "audits": [Audit("toy/cls", 4, 0.5, ("s001",))]}
    assert to_lines(value).splitlines() == [
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
