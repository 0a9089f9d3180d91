import pytest

from benchmarks.__main__ import main, run
from benchmarks.record import read_rows


def test_a_failing_program_does_not_stop_the_others(package, tmp_path, capsys):
    assert run(["failing", "good"], package, tmp_path) == 1
    assert [row["what"] for row in read_rows(tmp_path)] == ["before", "first", "second"]
    printed = capsys.readouterr().out
    assert "failing failed: RuntimeError: no more disk" in printed
    assert printed.splitlines()[-1] == "  failed: failing: RuntimeError: no more disk"


def test_a_missed_goal_is_listed_and_is_no_failure(package, tmp_path, capsys):
    assert run(["good"], package, tmp_path) == 0
    assert "1 of 2 goals met\n  not met: second: 2, goal <= 1.5\n" in capsys.readouterr().out


def test_a_program_that_does_not_exist_is_refused_before_anything_runs(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["extraction", "nonsense"])
    assert "no program nonsense; there are" in capsys.readouterr().err
