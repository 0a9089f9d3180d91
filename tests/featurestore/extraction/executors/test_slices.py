from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import UsageError
from featurestore.extraction.executors.slices import Slice, parse_slice, slice_from_slurm


@given(st.lists(st.integers(0, 1000), unique=True), st.integers(1, 9))
def test_slices_part_the_blocks(blocks, count):
    parts = [Slice(index, count).take(blocks) for index in range(count)]
    assert sorted(block for part in parts for block in part) == sorted(blocks)


def test_a_block_stays_in_its_slice_whatever_else_is_done():
    assert Slice(1, 3).take([1, 2, 4, 9]) == [1, 4]
    assert Slice(1, 3).take([2, 4]) == [4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4/4", "there is no slice 4 of 4 [--slice]. Slices are numbered from 0: 0/4 to 3/4."),
        ("-1/4", "there is no slice -1 of 4"),
        ("0/0", "Give --slice I/N with N of 1 or more"),
        ("1", "'1' is not a slice [--slice]. Give --slice I/N, such as 0/4"),
        ("a/b", "'a/b' is not a slice"),
    ],
)
def test_what_is_not_a_slice_is_refused_in_one_line(text, message):
    with pytest.raises(UsageError) as error:
        parse_slice(text)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "0/1"),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "4"}, "1/4"),
        (
            {
                "SLURM_ARRAY_TASK_ID": "6",
                "SLURM_ARRAY_TASK_COUNT": "4",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_ARRAY_TASK_STEP": "2",
            },
            "3/4",
        ),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, "0/1"),  # the batch script itself
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "2", "SLURM_NTASKS": "8"}, "2/8"),
        ({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "2"}, "1/2"),
        (
            {
                "SLURM_ARRAY_TASK_ID": "1",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "0",
                "SLURM_STEP_ID": "0",
                "SLURM_PROCID": "1",
                "SLURM_NTASKS": "2",
            },
            "3/6",
        ),
    ],
)
def test_slurm_says_which_slice(environment, expected):
    assert str(slice_from_slurm(environment)) == expected


def test_an_array_with_gaps_is_refused():
    with pytest.raises(UsageError, match=r"task 7 of a job array with gaps has no place among its 2 tasks .*--slice"):
        slice_from_slurm({"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "3"})


def test_what_is_no_number_is_refused():
    with pytest.raises(UsageError, match=r"'x' is not a number \[SLURM_PROCID\]"):
        slice_from_slurm({"SLURM_STEP_ID": "0", "SLURM_PROCID": "x"})
