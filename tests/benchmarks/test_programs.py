import pytest

from benchmarks.programs import ProgramError, find_programs, run_program


def test_programs_are_the_modules_with_measure(package):
    assert find_programs(package) == ["failing", "good", "killed"]


def test_the_programs_of_this_project_are_found():
    found = find_programs()
    assert {"extraction", "peer_extraction", "fidelity"} <= set(found)
    assert not {"row", "table", "growth"} & set(found)


def test_rows_carry_their_program_whatever_a_library_prints(package):
    first, second = run_program("good", package)
    assert (first["program"], first["what"], first["met"]) == ("good", "first", True)
    assert (second["peers"], second["note"], second["met"]) == ({"plain loop": 3.0}, "noted", False)


def test_a_failing_program_gives_its_rows_and_then_its_reason(package):
    rows = run_program("failing", package)
    assert next(rows)["what"] == "before"
    with pytest.raises(ProgramError, match="RuntimeError: no more disk"):
        next(rows)


def test_a_program_that_dies_without_a_word_gives_its_exit_code(package):
    with pytest.raises(ProgramError, match="exit code 3"):
        list(run_program("killed", package))
