from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurestore.datasets.cropping.crop_folder import (
    RECORD,
    check_request,
    folder_of,
    read_record,
    read_records,
    write_annotations,
    write_folder,
)
from featurestore.datasets.formats.coco_json import read_coco
from featurestore.errors import DatasetError, StoreWriteError


def put(output: Path, parent: str, size: int = 32) -> None:
    one = {"source": 3, "class": "agn", "xyxy": [1.0, 2.0, 4.0, 8.0]}
    record = {"request": {"size": size}, "crops": [{"file": "x0.fits", "objects": [one]}]}
    write_folder(folder_of(output, parent), lambda part: (part / RECORD).write_text(json.dumps(record)))


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        (part / RECORD).write_text("{}")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_folder(folder_of(tmp_path, "a"), fail)
    assert read_records(tmp_path) == {}, "what was begun does not count"
    put(tmp_path, "a")
    put(tmp_path, "a", size=16)
    assert read_records(tmp_path)["a"]["request"] == {"size": 16}
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["a"]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "images").write_text("a file")
    with pytest.raises(StoreWriteError, match="the crops cannot be written: Not a directory"):
        put(tmp_path, "a")


def test_another_request_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "a")
    check_request(tmp_path, {"size": 32})
    with pytest.raises(DatasetError, match=r"differ in size, stride .*images/a\]. Give another folder by --output"):
        check_request(tmp_path, {"size": 16, "stride": 4})


def test_a_damaged_record(tmp_path: Path) -> None:
    put(tmp_path, "a")
    path = folder_of(tmp_path, "a") / RECORD
    path.write_text("{")
    with pytest.raises(DatasetError, match=r"the record cannot be read: .*Remove its folder"):
        read_record(path)


def test_the_coco_file_can_be_read(tmp_path: Path) -> None:
    for parent in ("b", "a"):
        put(tmp_path, parent)
    write_annotations(tmp_path / "annotations.json", read_records(tmp_path), 32)
    file = read_coco(tmp_path / "annotations.json", tmp_path)
    assert file.categories == ("agn",)
    assert [(image.path, image.group, image.height) for image in file.images] == [
        ("a/x0.fits", "a", 32),
        ("b/x0.fits", "b", 32),
    ]
    assert [one.xyxy for image in file.images for one in image.objects] == [(1, 2, 4, 8)] * 2
    assert {image.box_origin for image in file.images} == {"lower"}
