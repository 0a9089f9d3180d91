"""Labels are those that the source has when a command names it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featurestore.datasets import open_dataset
from featurestore.errors import DatasetError, SkyprobeError
from featurestore.store import open_store
from studies.sources import find_dataset, refresh

TABLE = "file,label,split,group,ra,dec\n0.png,a,train,g,1.5,2\n1.png,b,train,h,1.5,3\n2.png,a,test,i,1.5,4\n"


@pytest.fixture
def folder(tmp_path):
    """Three images and their table."""
    made = tmp_path / "sky"
    made.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), 50 * number, np.uint8)).save(made / f"{number}.png")
    (made / "cat.csv").write_text(TABLE)
    return made


@pytest.fixture
def store(tmp_path, folder):
    opened = open_store(str(tmp_path / "store.zarr"), mode="a")
    opened.put_dataset(open_dataset(str(folder)).table)
    return opened


def labels(store, name):
    table = store.dataset(name)
    return dict(zip(table.sample_ids, np.array(table.classes["label"])[table.labels["label"]].tolist(), strict=True))


def test_what_did_not_change_is_read_without_a_word(store, folder, reporter):
    (name,) = store.datasets()
    assert [refresh(store, text, reporter) for text in (str(folder), name, f"table:{folder}")] == [name] * 3
    assert reporter.notices == []


@pytest.mark.parametrize("mode", ["a", "r"])
@pytest.mark.parametrize("by_name", [False, True])
def test_changed_labels_are_taken_and_told(store, folder, reporter, mode, by_name):
    (name,) = store.datasets()
    (folder / "cat.csv").write_text(TABLE.replace("0.png,a", "0.png,c"))
    opened = open_store(store.path, mode=mode, volatile=mode == "r")
    assert refresh(opened, name if by_name else str(folder), reporter) == name
    assert labels(opened, name) == {"0.png": "c", "1.png": "b", "2.png": "a"}
    assert reporter.notices == [f"{name} changed since it was last read: labels (label). It is taken as it is now."]
    assert labels(open_store(store.path), name)["0.png"] == ("c" if mode == "a" else "a")
    refresh(opened, name, reporter)
    assert len(reporter.notices) == 1


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("a,test", "a,valid", "splits"),
        ("g,1.5", "h,1.5", "groups"),
        ("1.5,3", "1.5,7", "positions"),
        ("file,label,split,group,ra,dec", "file,class,split,group,ra,dec", "new labels (class)"),
    ],
)
def test_other_columns_likewise(store, folder, reporter, old, new, told):
    (folder / "cat.csv").write_text(TABLE.replace(old, new))
    refresh(store, str(folder), reporter)
    assert told in reporter.notices[0]


def test_images_that_come_and_go_are_told(store, folder, reporter):
    Image.new("L", (8, 8)).save(folder / "3.png")
    (folder / "1.png").unlink()
    (folder / "cat.csv").write_text(TABLE.replace("1.png", "3.png"))
    name = refresh(store, str(folder), reporter)
    assert "1 new and 1 removed images" in reporter.notices[0]
    assert set(store.dataset(name).sample_ids) == {"0.png", "2.png", "3.png"}


def test_of_a_source_that_is_gone_the_stored_labels_are_used_and_it_is_said(store, folder, reporter):
    (name,) = store.datasets()
    folder.rename(folder.parent / "elsewhere")
    for text in (name, str(folder), f"{folder},groups=sky:30"):
        assert refresh(store, text, reporter) == name
    assert len(reporter.notices) == 3
    assert all("its source is gone" in text for text in reporter.notices)
    assert labels(store, name)["0.png"] == "a"


def test_a_source_that_is_there_and_wrong_stops_the_command(store, folder, reporter):
    (folder / "cat.csv").write_text("file,label,split\n0.png,a,tset\n1.png,a,\n2.png,b,\n")
    with pytest.raises(SkyprobeError, match="tset"):
        refresh(store, str(folder), reporter)


def test_groups_that_an_extraction_asked_for_remain(tmp_path, folder, reporter):
    opened = open_store(str(tmp_path / "grouped.zarr"), mode="a")
    opened.put_dataset(open_dataset(f"{folder},groups=sky:10").table)
    before = opened.dataset(opened.datasets()[0]).groups.tolist()
    refresh(opened, str(folder), reporter)
    assert opened.dataset(opened.datasets()[0]).groups.tolist() == before


def test_columns_that_an_extraction_chose_remain_until_others_are_typed(tmp_path, folder, reporter):
    (folder / "cat.csv").write_text("file,first,second\n0.png,a,x\n1.png,b,y\n2.png,a,x\n")
    opened = open_store(str(tmp_path / "columns.zarr"), mode="a")
    opened.put_dataset(open_dataset(f"{folder},labels=first").table)
    name = refresh(opened, str(folder), reporter)
    assert opened.dataset(name).schemes == ("first",)
    assert reporter.notices == []
    assert refresh(opened, f"{folder},labels=second", reporter) == name
    assert opened.dataset(name).schemes == ("second",)
    assert "new labels (second)" in reporter.notices[0]


def test_a_name_of_ones_own_is_not_read_afresh_and_this_is_said(tmp_path, folder, reporter):
    opened = open_store(str(tmp_path / "named.zarr"), mode="a")
    opened.put_dataset(replace(open_dataset(str(folder)).table, name="mine"))
    assert refresh(opened, "mine", reporter) == "mine"
    assert "not read afresh" in reporter.notices[0]


def test_a_table_made_in_memory_has_no_source(tmp_path, folder, reporter):
    opened = open_store(str(tmp_path / "memory.zarr"), mode="a")
    opened.put_dataset(replace(open_dataset(str(folder)).table, source="", name="made"))
    assert refresh(opened, "made", reporter) == "made"
    assert reporter.notices == []


def test_a_dataset_that_is_not_stored_is_left_alone(tmp_path, folder, reporter):
    opened = open_store(str(tmp_path / "empty.zarr"), mode="a")
    assert refresh(opened, str(folder), reporter) == open_dataset(str(folder)).table.name
    assert opened.datasets() == []
    with pytest.raises(DatasetError, match="nowhere"):
        find_dataset(opened, str(tmp_path / "nowhere"))
