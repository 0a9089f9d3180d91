"""Sizes as people read them."""

from studies.doctor.finding import megabytes


def test_sizes():
    assert [megabytes(n) for n in (0, 3_400_000, 999_000_000, 67_340_000_000)] == ["0 MB", "3 MB", "999 MB", "67.3 GB"]
