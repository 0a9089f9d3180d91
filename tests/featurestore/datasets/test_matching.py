from __future__ import annotations

from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.datasets.matching import ImageFinder, compose

STAR = "\u00e9toile.png"
PARTS = st.text("ab \u00e9\u00fc.", min_size=1, max_size=4).filter(lambda part: part.strip(". "))


@pytest.mark.parametrize(
    "name",
    [
        "sub/a.png",
        "./sub/a.png",
        "sub//a.png",
        "sub/../sub/a.png",
        "sub\\a.png",
        ".\\sub\\a.png",
        "a.png",
        "/home/someone/set/images/sub/a.png",
        "C:\\data\\images\\sub\\a.png",
        "//server/share/sub/a.png",
    ],
)
def test_names_as_people_write_them(name: str) -> None:
    assert ImageFinder(["images/sub/a.png"], ("images/", "images/sub/")).find(name) == "images/sub/a.png"


@pytest.mark.parametrize("name", ["b.png", "other/a.png", "", ".", "/", "/home/b.png", "sub/a.PNG"])
def test_names_of_nothing(name: str) -> None:
    assert ImageFinder(["sub/a.png"]).find(name) is None


def test_a_name_that_is_there_is_taken_as_it_is() -> None:
    finder = ImageFinder(["a\\b.png", "a/b.png"])
    assert finder.find("a\\b.png") == "a\\b.png"
    assert finder.find("a/b.png") == "a/b.png"


def test_the_longest_end_of_an_absolute_path_wins() -> None:
    finder = ImageFinder(["a.png", "train/a.png"])
    assert finder.find("/data/set/train/a.png") == "train/a.png"
    assert finder.find("/data/set/test/a.png") == "a.png"
    assert finder.find("test/a.png") is None


@given(st.lists(PARTS, min_size=1, max_size=3), st.sampled_from(["NFC", "NFD"]), st.sampled_from(["NFC", "NFD"]))
def test_accents_may_be_written_in_two_ways(parts: list[str], here: str, there: str) -> None:
    path = "/".join(parts)
    found, name = normalize(here, path), normalize(there, path)  # type: ignore[arg-type]
    assert ImageFinder([found]).find(name) == found
    assert compose(found) == compose(name)


def test_two_files_that_look_alike_are_told_apart() -> None:
    both = [normalize("NFC", STAR), normalize("NFD", STAR)]
    assert [ImageFinder(both).find(name) for name in both] == both
