from __future__ import annotations

import struct

import google_crc32c
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from featurestore.store.layout.row_checks import UNCHECKED, compute_checks

ROWS = np.array([3, 9])
SAMPLES = np.array([17, 2**63 + 1], dtype=np.uint64)
VALUES = np.array([[1.5, np.nan], [0, -2]], dtype=np.float16)


def test_a_check_is_the_crc_of_place_row_sample_and_columns_one_after_the_other() -> None:
    states = np.array([1, 2], dtype=np.uint8)
    found = compute_checks("features/a/cls", ROWS, SAMPLES, states, VALUES)
    for number in range(2):
        text = b"features/a/cls" + struct.pack("<qQB", ROWS[number], int(SAMPLES[number]), states[number])
        assert found[number] == google_crc32c.value(text + VALUES[number].astype("<f2").tobytes())


def test_no_rows_have_no_checks() -> None:
    assert compute_checks("a", ROWS[:0], SAMPLES[:0], VALUES[:0]).shape == (0,)


@given(st.sampled_from(["place", "row", "sample", "value"]), st.integers(1, 2**31))
def test_whatever_changes_changes_the_check(what: str, by: int) -> None:
    plain = {"path": "a/b", "rows": ROWS, "samples": SAMPLES, "values": VALUES.astype(np.float32)}
    other = dict(plain)
    if what == "place":
        other["path"] = f"a/{by}"
    elif what == "value":
        other["values"] = plain["values"] + np.float32(by)
    else:
        other[f"{what}s"] = plain[f"{what}s"] + np.array(by, dtype=plain[f"{what}s"].dtype)
    before, after = (compute_checks(*given.values()) for given in (plain, other))
    assert (before != after)[1] and UNCHECKED not in before
