import json

from benchmarks.record import describe_machine, forget_programs, read_machine, read_rows, replace_rows


def test_nothing_was_measured_yet(tmp_path):
    assert read_rows(tmp_path / "results") == []
    assert read_machine(tmp_path / "results") == {}


def test_rows_of_one_program_replace_its_old_ones_only(tmp_path, make_row):
    replace_rows("sweep", [make_row("sweep", what="old"), make_row("sweep", what="gone")], tmp_path)
    replace_rows("mlp", [make_row("mlp", what="kept")], tmp_path)
    replace_rows("sweep", [make_row("sweep", what="new")], tmp_path)
    assert [(row["program"], row["what"]) for row in read_rows(tmp_path)] == [("mlp", "kept"), ("sweep", "new")]


def test_the_file_is_a_list_of_rows(tmp_path, make_row):
    replace_rows("sweep", [make_row("sweep", goal=3.0, limit=4.0)], tmp_path)
    (row,) = json.loads((tmp_path / "latest.json").read_text(encoding="utf-8"))
    fields = {"what", "unit", "ours", "ratio", "goal", "at_most", "limit", "peers", "note", "met"}
    assert set(row) == fields | {"program"}
    assert row["met"] is False


def test_rows_of_programs_that_are_gone_are_dropped(tmp_path, make_row):
    replace_rows("old", [make_row("old")], tmp_path)
    replace_rows("new", [make_row("new")], tmp_path)
    forget_programs(["new"], tmp_path)
    assert [row["program"] for row in read_rows(tmp_path)] == ["new"]
    assert list(read_machine(tmp_path)["runs"]) == ["new"]


def test_the_machine_is_described_beside_the_rows_with_the_run_of_each_program(tmp_path, make_row):
    replace_rows("one", [make_row("one")], tmp_path)
    replace_rows("two", [make_row("two")], tmp_path)
    machine = read_machine(tmp_path)
    assert set(machine["runs"]) == {"one", "two"}
    assert set(machine["runs"]["one"]) == {"date", "commit"}
    assert machine["versions"]["numpy"]
    assert {name: machine[name] for name in describe_machine()} == describe_machine()
