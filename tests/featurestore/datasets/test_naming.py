from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.datasets.naming import default_name, identity, source_at


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
