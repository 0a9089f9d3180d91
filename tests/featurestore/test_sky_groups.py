from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import DatasetError, LabelMismatchError, UsageError
from featurestore.samples import SampleTable
from featurestore.sky_groups import choose_groups, group_by_sky, position_of, split_groups
from featurestore.store import open_store
from probes.sweep.splits import divide_rows

MakeTable = Callable[..., SampleTable]

# two pairs 13" apart (their names stand in the public test set of Radio Galaxy Zoo), and a source by itself
NAMES = [
    "FIRSTJ093040.6+054205_a.png",
    "FIRSTJ011349.0+065025.png",
    "FIRSTJ093040.5+054217.png",
    "sky/J120000.0-300000.png",
    "sky/J120001.0-300000.png",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("galaxies", ("galaxies", None)),
        ("first,groups=sky:30", ("first", 30.0)),
        ("fits:a,b,groups=sky:0.5", ("fits:a,b", 0.5)),
    ],
)
def test_the_ending_is_taken_off(text: str, expected: tuple[str, float | None]) -> None:
    assert split_groups(text) == expected


@pytest.mark.parametrize("ending", ["sky", "sky:", "sky:x", "sky:0", "sky:-1", "sky:nan", "sky:inf", "sun:3", ""])
def test_other_endings_are_refused(ending: str) -> None:
    with pytest.raises(UsageError, match=r"groups=.* is not understood .*Write groups=sky:30, a radius in arcsec"):
        split_groups(f"galaxies,groups={ending}")


@given(st.floats(0, 359.99), st.floats(-89.99, 89.99))
def test_names_tell_positions(ra: float, dec: float) -> None:
    coord = SkyCoord(ra, dec, unit="deg")
    name = coord.to_string("hmsdms", sep="", precision=2).replace(" ", "")
    found = position_of(f"train/FIRSTJ{name}_logminmax.png")
    assert found is not None
    assert coord.separation(SkyCoord(*found, unit="deg")).arcsec < 0.2


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("110_176.842+035.019_0.0629_0040.15.fits", (176.842, 35.019)),
        ("test/Bent/14.084_-9.608_3_MiraBest.png", (14.084, -9.608)),
        ("test/Bent/134.488_17.08_3_MiraBest.png", (134.488, 17.08)),
        ("J000000.5-000030.png", (0.5 * 15 / 3600, -30 / 3600)),
        ("frdeep_J1553+1401_II.fits.fz", None),
        ("400.5_10.5.png", None),
        ("10.5_95.0.png", None),
        ("176.842+035.019/image.png", None),
        ("galaxy_17.png", None),
    ],
)
def test_forms_of_names(name: str, expected: tuple[float, float] | None) -> None:
    found = position_of(name)
    assert found == expected if expected is None else found == pytest.approx(expected)


def test_neighbours_share_a_group(make_table: MakeTable) -> None:
    groups = group_by_sky(make_table(NAMES), 20).groups
    assert groups is not None
    assert groups.tolist() == [NAMES[2], NAMES[1], NAMES[2], NAMES[3], NAMES[3]]


def test_a_smaller_radius_parts_them(make_table: MakeTable) -> None:
    groups = group_by_sky(make_table(NAMES), 12.5).groups
    assert groups is not None and len(set(groups.tolist())) == 4  # 12.1" and 13.0" apart


def test_friends_of_friends_are_one_group(make_table: MakeTable) -> None:
    sky = np.array([[10, 0], [10 + 20 / 3600, 0], [10 + 40 / 3600, 0], [10 + 90 / 3600, 0]])
    groups = group_by_sky(make_table(4, sky=sky), 25).groups
    assert groups is not None and len(set(groups[:3].tolist())) == 1 and groups[3] not in groups[:3]


@given(st.lists(st.tuples(st.floats(0, 0.02), st.floats(-0.02, 0.02)), min_size=1, max_size=12), st.floats(1, 60))
def test_groups_are_components_of_the_distance_graph(places: list[tuple[float, float]], radius: float) -> None:
    n = len(places)
    table = SampleTable("t", [f"{i:02d}" for i in range(n)], {}, {}, np.full(n, ""), np.zeros(n, np.uint64),
                        sky=np.array(places))  # fmt: skip
    coords = SkyCoord(*np.array(places).T, unit="deg")
    near = np.array([[one.separation(other).arcsec <= radius for other in coords] for one in coords])
    reach = np.linalg.matrix_power(near.astype(float), n) > 0
    groups = group_by_sky(table, radius).groups
    assert groups is not None
    np.testing.assert_array_equal(groups[:, None] == groups[None], reach)


def test_positions_of_the_catalogue_win_over_names(make_table: MakeTable) -> None:
    sky = np.array([[1.0, 1], [np.nan, np.nan], [50, 1], [100, 1], [150, 1]])
    groups = group_by_sky(make_table(NAMES, sky=sky), 20).groups
    assert groups is not None and len(set(groups.tolist())) == 5


def test_groups_of_the_dataset_stay_whole(make_table: MakeTable) -> None:
    own = np.array(["survey", "survey", "", "", ""])
    groups = group_by_sky(make_table(NAMES, groups=own), 20).groups
    assert groups is not None and groups[0] == groups[1] == groups[2] != groups[3]


def test_grouping_twice_changes_nothing(make_table: MakeTable) -> None:
    once = group_by_sky(make_table(NAMES), 20)
    np.testing.assert_array_equal(group_by_sky(once, 20).groups, once.groups)


def test_samples_without_a_position_are_counted(make_table: MakeTable) -> None:
    table = choose_groups(make_table([*NAMES, "unknown.png"]), "toy,groups=sky:20")
    assert table.groups is not None and table.groups[5] == "unknown.png"
    assert "6 samples in 4 groups within 20 arcsec. 1 samples have no position on the sky" in table.notice


def test_no_position_at_all_is_an_error(make_table: MakeTable) -> None:
    with pytest.raises(DatasetError, match=r"no sample has a position on the sky .*Give columns ra and dec"):
        group_by_sky(make_table(["a.png", "b.png"]), 20)


def test_what_asks_for_no_groups_has_none(make_table: MakeTable) -> None:
    table = make_table(NAMES)
    assert choose_groups(table, "toy") is table


def test_own_splits_that_part_neighbours_are_an_error(make_table: MakeTable) -> None:
    labels = {"labels": {"class": np.array([0, 1, 0, 1, 0])}, "classes": {"class": ("a", "b")}}
    table = make_table(NAMES, splits=np.array(["train", "train", "test", "train", "train"]), **labels)
    assert len(divide_rows(table).test) == 1
    with pytest.raises(LabelMismatchError, match=r"1 groups have samples in more than one split: FIRSTJ093040.5"):
        divide_rows(group_by_sky(table, 20))


@pytest.mark.parametrize("seed", range(5))
def test_splits_made_here_keep_neighbours_together(make_table: MakeTable, seed: int) -> None:
    sky = np.stack([10 + np.arange(60) // 3, np.arange(60) % 3 / 3600], axis=1)  # 20 places, three samples each
    columns = {"labels": {"class": np.arange(60) % 2}, "classes": {"class": ("a", "b")}, "splits": np.full(60, "")}
    table = make_table(60, sky=sky, **columns)
    apart = divide_rows(table, seed=seed)
    assert set(apart.train // 3) & set(apart.test // 3)
    split = divide_rows(group_by_sky(table, 5), seed=seed)
    assert len(split.test) == 12 and not set(split.train // 3) & set(split.test // 3)


def test_the_store_keeps_positions(make_table: MakeTable, tmp_path: Path) -> None:
    sky = np.array([[1.0, 2], [np.nan, np.nan], [3, 4]])
    store = open_store(str(tmp_path / "s.zarr"), mode="a")
    store.put_dataset(make_table(3, sky=sky))
    np.testing.assert_array_equal(store.dataset(make_table(1).name).sky, sky)
    assert make_table(3, sky=sky).take(np.array([2, 0])).sky.tolist() == [[3, 4], [1, 2]]
