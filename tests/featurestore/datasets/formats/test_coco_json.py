from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.datasets.annotation.records import AnnotatedObject
from featurestore.datasets.formats.coco_json import find_annotation_files, has_boxes, names_of, read_coco
from featurestore.errors import DatasetError, LabelMismatchError

WriteJson = Callable[[Path, Any], None]


def content(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.png", "height": 6}, {"id": 9, "file_name": "b.png", "split": "val"}],
        "annotations": [
            {"id": 1, "image_id": 9, "category_id": 2, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": 1},
            {"id": 3, "image_id": 9, "category_id": 1, "bbox": [0, 0, 1, 1], "ignore": 1},
        ],
        "categories": [{"id": 2, "name": "bent"}, {"id": 1, "name": "compact"}],
    } | changes


def test_records_join_images_and_annotations(tmp_path: Path, write_json: WriteJson) -> None:
    write_json(tmp_path / "train.json", content(info={"box_origin": "lower"}))
    file = read_coco(tmp_path / "train.json", tmp_path)
    assert file.images[0].box_origin == "lower"
    assert file.categories == ("compact", "bent")
    first, second = file.images
    assert (first.path, first.split, first.height, first.objects) == ("a.png", "train", 6, ())
    assert (second.path, second.split, second.height) == ("b.png", "valid", None)
    assert second.objects[0] == AnnotatedObject((1, 2, 4, 6), "bent", crowd=False)
    assert [one.crowd for one in second.objects] == [False, True, True]


@pytest.mark.parametrize(
    ("name", "split", "folders"),
    [
        ("annotations.json", "", ("images/",)),
        ("train.json", "train", ("images/", "train/", "images/train/")),
        ("annotations/instances_val2017.json", "valid", ("annotations/", "images/", "val2017/", "images/val2017/")),
        ("annotations_test.json", "test", ("images/", "test/", "images/test/")),
        ("valid/_annotations.coco.json", "valid", ("valid/", "images/")),
    ],
)
def test_splits_and_folders_come_from_the_name(
    tmp_path: Path, write_json: WriteJson, name: str, split: str, folders: tuple[str, ...]
) -> None:
    write_json(tmp_path / name, content())
    assert find_annotation_files(tmp_path) == [tmp_path / name]
    file = read_coco(tmp_path / name, tmp_path)
    assert file.images[0].split == split
    assert file.folders == folders


def test_other_json_files_are_not_annotations(tmp_path: Path, write_json: WriteJson) -> None:
    for name in ("state.json", "training_log.json", "testing.json", "deep/er/train.json"):
        write_json(tmp_path / name, {})
    assert find_annotation_files(tmp_path) == []


def test_train_comes_first(tmp_path: Path, write_json: WriteJson) -> None:
    for name in ("test.json", "annotations/val.json", "train.json"):
        write_json(tmp_path / name, content())
    assert [path.stem for path in find_annotation_files(tmp_path)] == ["train", "val", "test"]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({}, "no images, annotations, categories"),
        ({"images": [], "annotations": []}, "no categories"),
        (content(images=[{"id": 1}], annotations=[]), "file_name"),
        (content(categories=[{"id": 1}]), "name"),
        (content(annotations=[{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3]}]), "not enough values"),
        (content(annotations=[{"id": 1, "image_id": 7, "category_id": 1, "bbox": "abcd"}]), "could not convert"),
        (content(images=3), "not iterable"),
    ],
)
def test_what_is_no_coco_file_says_why(tmp_path: Path, write_json: WriteJson, broken: Any, reason: str) -> None:
    write_json(tmp_path / "train.json", broken)
    with pytest.raises(DatasetError, match=f"not a COCO annotation file: .*{reason}"):
        read_coco(tmp_path / "train.json", tmp_path)


def test_text_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_bytes(b"\xff{")
    with pytest.raises(DatasetError, match="not a COCO annotation file"):
        read_coco(tmp_path / "train.json", tmp_path)


@pytest.mark.parametrize("change", [{"image_id": 8}, {"category_id": 3}])
def test_annotations_without_image_or_category(tmp_path: Path, write_json: WriteJson, change: dict[str, int]) -> None:
    annotation = {"id": 5, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]} | change
    write_json(tmp_path / "train.json", content(annotations=[annotation]))
    with pytest.raises(LabelMismatchError, match="annotation 5 belongs to no image or no category"):
        read_coco(tmp_path / "train.json", tmp_path)


def test_one_id_for_two_categories(tmp_path: Path, write_json: WriteJson) -> None:
    write_json(tmp_path / "train.json", content(categories=[{"id": 1, "name": name} for name in "ab"]))
    with pytest.raises(DatasetError, match="two categories have the same id"):
        read_coco(tmp_path / "train.json", tmp_path)


@pytest.mark.parametrize("box", [{}, {"bbox": None}, {"bbox": []}, {"bbox": [1, None, 2, 2]}])
def test_an_annotation_without_a_box_is_an_object_without_edges(
    tmp_path: Path, write_json: WriteJson, box: dict[str, Any]
) -> None:
    write_json(tmp_path / "train.json", content(annotations=[{"id": 1, "image_id": 7, "category_id": 1, **box}]))
    image = read_coco(tmp_path / "train.json", tmp_path).images[0]
    assert np.isnan(image.objects[0].xyxy).all()


@pytest.mark.parametrize(("written", "crowd"), [("0", False), ("1", True), (1, True), (0, False), (None, False)])
def test_crowds_by_numbers_and_their_texts(tmp_path: Path, write_json: WriteJson, written: object, crowd: bool) -> None:
    one = {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1], "iscrowd": written}
    write_json(tmp_path / "train.json", content(annotations=[one]))
    image = read_coco(tmp_path / "train.json", tmp_path).images[0]
    assert image.objects[0].crowd is crowd


def test_one_id_for_two_images(tmp_path: Path, write_json: WriteJson) -> None:
    twins = [{"id": 1, "file_name": name} for name in ("a.png", "b.png")]
    write_json(tmp_path / "train.json", content(images=twins, annotations=[]))
    with pytest.raises(DatasetError, match="two images have the same id"):
        read_coco(tmp_path / "train.json", tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "it is nested too deeply"),
        ('{"images": ' + "1" * 5000 + "}", "Exceeds the limit"),
        (
            '{"images": [{"id": 1, "file_name": "a", "height": 1e999}], "annotations": [], "categories": []}',
            "not a number of",
        ),
        (
            '{"images": [{"id": 1, "file_name": "a", "width": -3}], "annotations": [], "categories": []}',
            "not a number of",
        ),
        ('{"images": {}, "annotations": {}, "categories": [1]}', "not subscriptable"),
        ("[]", "no images, annotations, categories"),
        ("", "Expecting value"),
    ],
)
def test_hostile_json(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "train.json").write_text(text)
    with pytest.raises(DatasetError, match=f"the file is not a COCO annotation file: .*{reason}"):
        read_coco(tmp_path / "train.json", tmp_path)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


# Each example writes over the file of the one before.
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_whatever_the_values_are_errors_are_the_projects_own(tmp_path: Path, data: st.DataObject) -> None:
    changed = content()
    for _ in range(data.draw(st.integers(1, 2))):
        part = changed[data.draw(st.sampled_from(["images", "annotations", "categories"]))][-1]
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(VALUES)
    (tmp_path / "train.json").write_text(json.dumps(changed))
    with suppress(DatasetError):
        read_coco(tmp_path / "train.json", tmp_path)


def test_files_with_and_without_boxes() -> None:
    assert has_boxes(content())
    assert has_boxes(content(annotations=[]))
    assert not has_boxes(content(annotations=[{"id": 1, "image_id": 7, "caption": "a source"}]))
    assert not has_boxes({"images": [], "categories": []})
    assert not has_boxes({"images": [], "annotations": [{"bbox": [0, 0, 1, 1]}]})
    assert names_of(content()) == ["a.png", "b.png"]
    assert names_of({"images": [3, {}]}) == names_of({"images": None}) == []
