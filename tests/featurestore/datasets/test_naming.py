from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.datasets.naming import default_name, identity, source_at, split_options, with_options
from featurestore.errors import UsageError


def test_a_source_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_at("fits", Path("sky")) == f"fits:{tmp_path.resolve()}/sky"


def test_equal_folder_names_at_different_places_differ() -> None:
    names = {default_name(source) for source in ("fits:/a/sky", "fits:/b/sky", "coco:/a/sky")}
    assert len(names) == 3
    assert all(name.startswith("sky-") for name in names)


def test_a_name_depends_on_nothing_else() -> None:
    assert default_name("fits:/a/sky") == default_name("fits:/a/sky")


@pytest.mark.parametrize("place", ["/a/My galaxies (é)!", "/", "/a/..b", "/a/" + "x" * 300])
def test_a_default_name_is_safe_for_a_folder(place: str, tmp_path: Path) -> None:
    name = default_name(f"image_folder:{place}")
    (tmp_path / name).mkdir()
    assert name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert name.isascii()
    assert not name.startswith(".")


def test_a_given_name_wins(tmp_path: Path) -> None:
    assert identity("fits", tmp_path, "mine") == {"name": "mine", "source": f"fits:{tmp_path.resolve()}"}


NAMES = st.text("ab ,+%=/", min_size=1, max_size=5)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "labels": st.lists(NAMES, min_size=1, max_size=3).map(tuple),
            "keep": st.lists(NAMES, min_size=1, max_size=3).map(tuple),
            "file": NAMES,
            "split": NAMES,
            "extension": st.integers(0, 9) | st.just("SCI"),
        },
    ),
    st.sampled_from(["sky", "table:/a,b/c=d.csv", "/a,z=0.5"]),
)
def test_options_come_back_from_the_text(options: dict[str, object], data: str) -> None:
    assert split_options(with_options(data, options)) == (data, options)


def test_the_text_of_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = with_options(
        "sky", {"catalogue": "cat.csv", "labels": ["fr", "bar"], "split": None, "keep": (), "name": "x"}
    )
    assert text == f"sky,catalogue={tmp_path.resolve()}/cat.csv,labels=fr+bar"


@pytest.mark.parametrize(
    ("text", "problem"), [("sky,labels=a,labels=b", "is given twice"), ("sky,labels=", "has no value")]
)
def test_options_that_make_no_sense(text: str, problem: str) -> None:
    with pytest.raises(UsageError, match=f"the option labels of the dataset {problem}"):
        split_options(text)
