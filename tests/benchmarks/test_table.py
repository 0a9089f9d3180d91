import re

from benchmarks.table import COLUMNS, format_row, header, summarise, to_markdown


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_row_stands_under_its_columns(make_row):
    names, rule = header().splitlines()
    line = format_row(make_row(ours=0.25, limit=0.2, goal=50.0, ratio=63.1))
    for name, text in {"ours": "0.25 s", "limit": "0.2", "ratio": "63.1", "goal": ">= 50", "met": "yes"}.items():
        assert line[names.index(name) :].startswith(text)
    assert len(rule) == sum(COLUMNS.values()) + 2 * (len(COLUMNS) - 1)


def test_each_peer_has_its_line_and_long_cells_are_wrapped(make_row):
    lines = format_row(make_row(what="sweep " * 20, peers={"loop": 1.0, "library": 2.0}, note="noted")).splitlines()
    place = header().index("peers")
    assert [line[place:].split("  ")[0] for line in lines[:2]] == ["loop: 1", "library: 2"]
    assert lines[-1] == "    noted"
    assert max(map(len, lines)) <= sum(COLUMNS.values()) + 2 * (len(COLUMNS) - 1)


def test_goals_say_which_side_is_better(make_row):
    assert "<= 1.05" in format_row(make_row(goal=1.05, at_most=True))
    assert ">= 1.05" in format_row(make_row(goal=1.05))


def test_a_row_without_goal_is_neither_met_nor_missed(make_row):
    head, rule, row = to_markdown([make_row()]).splitlines()
    assert dict(zip(cells(head), cells(row), strict=True))["met"] == ""
    assert len(cells(rule)) == len(COLUMNS)


def test_markdown_keeps_its_columns_whatever_stands_in_the_cells(make_row):
    row = to_markdown([make_row(what="a | b", peers={"x|y": 1.0, "z": 2.0})]).splitlines()[2]
    assert len(cells(row)) == len(COLUMNS)
    assert cells(row)[3] == r"x\|y: 1<br>z: 2"


def test_equal_notes_are_written_once(make_row):
    text = to_markdown([make_row(note="same"), make_row(note="other"), make_row(note="same"), make_row()])
    whats = [cells(line)[0] for line in text.splitlines()[2:6]]
    assert whats == ["sweep [1]", "sweep [2]", "sweep [1]", "sweep"]
    assert text.splitlines()[-2:] == ["1. same", "2. other"]


def test_the_summary_counts_goals_and_names_those_that_are_missed(make_row):
    rows = [make_row(goal=1.0), make_row(what="slow one", goal=3.0), make_row()]
    assert summarise(rows).splitlines() == ["1 of 2 goals met", "  not met: slow one: 2, goal >= 3"]
