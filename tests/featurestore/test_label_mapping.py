from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import LabelMismatchError, UnknownNameError, UsageError
from featurestore.label_mapping import (
    Relabelling,
    choose_labels,
    describe_labels,
    map_labels,
    read_relabelling,
    relabel,
    scheme_name,
)
from featurestore.samples import SampleTable

MakeTable = Callable[..., SampleTable]
CLASSES = ("1C-1P", "1C-2P", "2C-2P", "3C-3P")


@pytest.fixture
def table(make_table: MakeTable) -> SampleTable:
    labels = {"peaks": np.array([0, 1, 2, 3, 3, -1]), "bars": np.array([0, 1, 0, 1, 0, 1])}
    return make_table(6, labels=labels, classes={"peaks": CLASSES, "bars": ("no", "yes")})


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def apply(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return apply


TOML = """
base = "peaks"
name = "extent"
[classes]
"2C-2P" = "extended"
"1C-2P" = "extended"
"1C-1P" = "compact"
"3C-3P" = ""
"""
CSV = "peaks,extent\n2C-2P,extended\n1C-2P, extended\n1C-1P,compact\n3C-3P,\n\n"


@pytest.mark.parametrize(("name", "text"), [("any.toml", TOML), ("any.csv", CSV), ("any.CSV", "\ufeff" + CSV)])
def test_a_mapping_file_gives_a_new_scheme(
    table: SampleTable, write: Callable[[str, str], Path], name: str, text: str
) -> None:
    path = write(name, text)
    assert scheme_name(str(path)) == "extent"
    found = choose_labels(table, str(path))
    assert found.schemes == ("peaks", "bars", "extent")
    assert found.classes["extent"] == ("extended", "compact")
    assert found.labels["extent"].tolist() == [1, 0, 0, -1, -1, -1]
    assert found.labels["peaks"] is table.labels["peaks"]
    assert found.fingerprint == table.fingerprint


def test_base_and_name_have_defaults(table: SampleTable, write: Callable[[str, str], Path]) -> None:
    for path in (write("few.toml", '[classes]\n"1C-1P" = "one"'), write("few.csv", ",\n1C-1P,one")):
        assert read_relabelling(path) == Relabelling("few", None, {"1C-1P": "one"}, str(path))
        assert choose_labels(table, str(path)).labels["few"].tolist() == [0, -1, -1, -1, -1, -1]


@pytest.mark.parametrize("labels", [None, "peaks", "toml", "no such scheme"])
def test_a_scheme_stays_a_scheme(table: SampleTable, labels: str | None) -> None:
    assert scheme_name(labels) is labels
    assert choose_labels(table, labels) is table


def test_the_notice_says_what_became_unlabelled(table: SampleTable) -> None:
    found = relabel(table, Relabelling("few", "peaks", {"1C-1P": "one", "1C-2P": "two", "2C-2P": ""}))
    assert found.notice == (
        "for scholars\ngalaxies, labels few: unlabelled are the samples of peaks 2C-2P (1), 3C-3P (2)."
    )
    assert describe_labels(found, "peaks") == describe_labels(found, None) == ""
    assert relabel(table, Relabelling("same", "bars", {"no": "a", "yes": "b"})).notice == "for scholars"


def test_the_description_of_a_file(table: SampleTable, write: Callable[[str, str], Path]) -> None:
    text = "galaxies, labels extent: unlabelled are the samples of peaks 3C-3P (2)."
    assert describe_labels(table, str(write("any.toml", TOML))) == text


def test_the_digest_tells_mappings_apart(table: SampleTable) -> None:
    """Two files that give schemes of one name: their runs are never confused."""
    one = relabel(table, Relabelling("new", "peaks", {"1C-1P": "a", "1C-2P": "b"}))
    renamed = relabel(table, Relabelling("new", "peaks", {"1C-1P": "a", "1C-2P": "c"}))
    moved = relabel(table, Relabelling("new", "peaks", {"1C-1P": "a", "2C-2P": "b"}))
    again = relabel(table, Relabelling("new", "peaks", {"1C-1P": "a", "1C-2P": "b"}))
    digests = [each.label_digest("new") for each in (one, renamed, moved)]
    assert len(set(digests)) == 3
    assert again.label_digest("new") == digests[0]


@given(st.lists(st.integers(-1, 3), max_size=9), st.lists(st.sampled_from(["x", "y", ""]), min_size=4, max_size=4))
def test_labels_follow_their_names(labels: list[int], names: list[str]) -> None:
    mapped = map_labels(np.array(labels, dtype=np.int64), names, ("y", "x"))
    assert mapped.dtype == np.int64
    assert mapped.tolist() == [{"y": 0, "x": 1}.get(names[label], -1) if label >= 0 else -1 for label in labels]


def test_names_that_do_not_exist(table: SampleTable) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown label scheme 'peak'.*Did you mean peaks"):
        relabel(table, Relabelling("new", "peak", {"1C-1P": "a"}))
    with pytest.raises(
        UnknownNameError, match=r"unknown class of the label scheme peaks '1C_1P' \[map\.csv\]. Did you mean 1C-1P"
    ):
        relabel(table, Relabelling("new", "peaks", {"1C_1P": "a"}, "map.csv"))


def test_a_name_that_is_taken(table: SampleTable) -> None:
    with pytest.raises(UsageError, match=r"has a label scheme 'bars' already \[map\.csv\]"):
        relabel(table, Relabelling("bars", "peaks", {"1C-1P": "a"}, "map.csv"))


def test_a_dataset_without_labels(make_table: MakeTable) -> None:
    with pytest.raises(LabelMismatchError, match="the dataset has no labels"):
        relabel(make_table(labels={}, classes={}), Relabelling("new", None, {"1C-1P": "a"}))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("m.toml", "classes", "the mapping is not TOML"),
        ("m.toml", "", "the mapping gives no class a new name"),
        ("m.toml", '[classes]\na = ""', "the mapping gives no class a new name"),
        ("m.toml", 'name = ""\n[classes]\na = "b"', "the new label scheme has no name"),
        ("m.toml", "[classes]\na = 1", "1 is not text"),
        ("m.toml", 'classes = ["a"]', r"\['a'\] is not text"),
        ("m.toml", 'base = 1\n[classes]\na = "b"', "1 is not text"),
        pytest.param("m.toml", "a = " + "[" * 20_000, "the mapping is not TOML", id="deep"),
        pytest.param("m.csv", "base,new\n" + "a" * 200_000, "the mapping is not CSV", id="wide"),
        ("m.csv", "", "the mapping gives no class a new name"),
        ("m.csv", "base,new\na", "line 2 has 1 columns"),
        ("m.csv", "base,new\na,b\na,c\n", "classes occur more than once: a"),
    ],
)
def test_what_is_no_mapping(write: Callable[[str, str], Path], name: str, text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"{reason}.*{name}"):
        read_relabelling(write(name, text))


def test_a_key_that_does_not_exist(write: Callable[[str, str], Path]) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown key 'clases' .*Did you mean classes"):
        read_relabelling(write("m.toml", "[clases]"))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read the mapping: No such file.*m\.toml"):
        scheme_name(str(tmp_path / "m.toml"))
    with pytest.raises(UsageError, match="cannot read the mapping: Could not determine home directory"):
        scheme_name("~nobody-at-all/m.toml")
    (tmp_path / "m.csv").write_bytes(b"\xff,\xfe")
    with pytest.raises(UsageError, match="the mapping is not UTF-8 text"):
        read_relabelling(tmp_path / "m.csv")
