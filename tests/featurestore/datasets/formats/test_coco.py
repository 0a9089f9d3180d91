from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.datasets.formats.coco import Coco
from featurestore.errors import DatasetError, EmptyDatasetError, LabelMismatchError, SkyprobeError, UnreadableImageError
from featurestore.testing import DatasetConformance

WriteImages = Callable[..., Path]
WriteJson = Callable[[Path, Any], None]


def coco_of(*names: str, boxes: dict[int, list[list[float]]], **extra: Any) -> dict[str, Any]:
    """Images of 6 x 8 pixels; a box is x, y, width, height, category and whether it is a crowd."""
    return {
        "images": [{"id": n, "file_name": name, "height": 6, "width": 8} for n, name in enumerate(names)],
        "annotations": [
            {"id": 0, "image_id": n, "bbox": box[:4], "category_id": box[4], "iscrowd": box[5] if len(box) > 5 else 0}
            for n, own in boxes.items()
            for box in own
        ],
        "categories": [{"id": 1, "name": "compact"}, {"id": 2, "name": "bent"}],
    } | extra


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, write_images: WriteImages, write_json: WriteJson) -> Coco:
        root = write_images("train/a.png", "images/b.png", "c.png")
        (root / "c.png").write_text("no image")
        write_json(root / "train.json", coco_of("a.png", "b.png", boxes={0: [[0, 0, 8, 6, 1]], 1: [[1, 1, 2, 3, 2]]}))
        write_json(root / "test.json", coco_of("c.png", boxes={}))
        return Coco(str(root))


class TestConformanceOnRealData(DatasetConformance):
    @pytest.fixture
    def dataset(self, shared: Callable[[str], Path], tmp_path: Path, write_json: WriteJson) -> Coco:
        """Every 40th field of the real set."""
        root = shared("rgz_first_boxes")
        content = json.loads((root / "annotations.json").read_text())
        content["images"] = content["images"][::40]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
        (tmp_path / "fits").mkdir()
        for image in content["images"]:
            (tmp_path / image["file_name"]).symlink_to(root / image["file_name"])
        write_json(tmp_path / "annotations.json", content)
        return Coco(str(tmp_path))


def test_labels_of_images_with_one_object(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png", "b.png", "c.png", "d.png")
    boxes = {
        0: [[0, 0, 2, 2, 2]],
        1: [[0, 0, 2, 2, 1], [0, 0, 3, 3, 2]],
        2: [[0, 0, 1, 1, 1], [0, 0, 5, 5, 2, 1]],
    }
    write_json(root / "annotations.json", coco_of("a.png", "b.png", "c.png", "d.png", boxes=boxes))
    table = Coco(str(root)).table
    assert table.scheme() == "single_object"
    assert table.classes["single_object"] == table.box_classes == ("compact", "bent")
    assert table.labels["single_object"].tolist() == [1, -1, 0, -1]
    assert table.labels["largest_object"].tolist() == [1, 1, 0, -1]


def test_boxes_become_corners(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png", "b.png")
    boxes = {1: [[1, 2, 3, 4, 2], [0, 0, 1, 1, 1, 1]]}
    write_json(root / "annotations.json", coco_of("a.png", "b.png", boxes=boxes))
    found = Coco(str(root)).table.boxes
    assert found is not None
    assert found.row.tolist() == [1, 1]
    assert found.xyxy.tolist() == [[1, 2, 4, 6], [0, 0, 1, 1]]
    assert found.label.tolist() == [1, 0]
    assert found.crowd.tolist() == [False, True]
    assert found.of(1).tolist() == [[1, 2, 4, 6]]


@pytest.mark.parametrize(
    ("suffix", "option", "field", "flipped"),
    [
        ("png", None, None, False),
        ("fits", None, None, True),
        ("png", None, "lower", True),
        ("fits", None, "upper", False),
        ("fits", "upper", "lower", False),
        ("png", "lower", None, True),
    ],
)
def test_box_origin(
    write_images: WriteImages,
    write_json: WriteJson,
    suffix: str,
    option: str | None,
    field: str | None,
    *,
    flipped: bool,
) -> None:
    root, name = write_images(f"a.{suffix}"), f"a.{suffix}"
    info = {"box_origin": field} if field else {}
    write_json(root / "annotations.json", coco_of(name, boxes={0: [[1, 0, 3, 2, 1]]}, info=info))
    boxes = Coco(str(root), box_origin=option).table.boxes
    assert boxes is not None
    assert boxes.xyxy.tolist() == [[1, 4, 4, 6] if flipped else [1, 0, 4, 2]]


def test_a_box_on_a_fits_image_frames_the_same_pixels(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.fits")
    raw = fits.getdata(root / "a.fits")
    write_json(root / "annotations.json", coco_of("a.fits", boxes={0: [[2, 1, 4, 3, 1]]}))
    dataset = Coco(str(root))
    assert dataset.table.boxes is not None
    x0, y0, x1, y1 = dataset.table.boxes.xyxy[0].astype(int)
    np.testing.assert_array_equal(dataset.read(0).image[y0:y1, x0:x1], raw[1:4, 2:6][::-1])


@st.composite
def drawn_boxes(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Rows and columns of an array, and a box inside it: x, y, width, height."""
    rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    x, y = draw(st.integers(0, columns - 1)), draw(st.integers(0, rows - 1))
    return (rows, columns), (x, y, draw(st.integers(1, columns - x)), draw(st.integers(1, rows - y)))


# Each example writes over the files of the one before.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn_boxes())
def test_a_box_covers_the_pixels_that_it_was_drawn_on(
    tmp_path: Path, write_json: WriteJson, drawn: tuple[tuple[int, int], tuple[int, int, int, int]]
) -> None:
    shape, (x, y, width, height) = drawn
    array = np.zeros(shape, dtype=np.float32)
    array[y : y + height, x : x + width] = 1
    fits.writeto(tmp_path / "a.fits", array, overwrite=True)
    content = coco_of("a.fits", boxes={0: [[x, y, width, height, 1]]})
    content["images"][0] |= {"height": shape[0], "width": shape[1]}
    write_json(tmp_path / "annotations.json", content)
    dataset = Coco(str(tmp_path))
    assert dataset.table.boxes is not None
    x0, y0, x1, y1 = dataset.table.boxes.of(0)[0].astype(int)
    covered = np.zeros(shape, dtype=np.float32)
    covered[y0:y1, x0:x1] = 1
    np.testing.assert_array_equal(dataset.read(0).image, covered)


def test_categories_of_all_files_are_joined_by_name(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png", "b.png")
    write_json(root / "train.json", coco_of("a.png", boxes={0: [[0, 0, 1, 1, 1]]}))
    other_ids = [{"id": 1, "name": "jet"}, {"id": 2, "name": "compact"}]
    write_json(root / "test.json", coco_of("b.png", boxes={0: [[0, 0, 1, 1, 2]]}, categories=other_ids))
    table = Coco(str(root)).table
    assert table.box_classes == ("compact", "bent", "jet")
    assert table.labels["single_object"].tolist() == [0, 0]


def test_the_extension_decides_pixels_and_fingerprints(write_images: WriteImages, write_json: WriteJson) -> None:
    from astropy.io import fits

    root = write_images("a.fits")
    fits.append(root / "a.fits", np.ones((6, 8), np.float32))
    write_json(root / "annotations.json", coco_of("a.fits", boxes={}))
    default, second = Coco(str(root)), Coco(str(root), extension=1)
    assert np.unique(second.read(0).image).tolist() == [1]
    assert default.read(0).digest != second.read(0).digest
    assert default.table.fingerprints[0] != second.table.fingerprints[0]


def test_lower_boxes_want_a_height(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.fits")
    content = coco_of("a.fits", boxes={0: [[0, 0, 1, 1, 1]]})
    del content["images"][0]["height"]
    write_json(root / "annotations.json", content)
    with pytest.raises(DatasetError, match=r"the height of the image is not given \[a\.fits\]"):
        Coco(str(root))


def test_an_unknown_box_origin(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png")
    write_json(root / "annotations.json", coco_of("a.png", boxes={}))
    with pytest.raises(DatasetError, match="unknown box origin 'bottom'"):
        Coco(str(root), box_origin="bottom")


def test_annotations_that_do_not_match(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png", "b.png")
    write_json(root / "annotations.json", coco_of("a.png", "z.png", boxes={}))
    with pytest.raises(LabelMismatchError, match=r"1 rows name an image that is not there: z\.png"):
        Coco(str(root))
    write_json(root / "annotations.json", coco_of("a.png", boxes={}))
    with pytest.raises(LabelMismatchError, match=r"1 images have no row: b\.png"):
        Coco(str(root))


def test_one_image_in_two_splits(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png")
    for split in ("train", "test"):
        write_json(root / f"{split}.json", coco_of("a.png", boxes={}))
    with pytest.raises(DatasetError, match=r"sample ids occur more than once: a\.png"):
        Coco(str(root))


def test_no_annotations_and_no_images(write_images: WriteImages, tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError):
        Coco(str(tmp_path))
    with pytest.raises(DatasetError, match="no COCO annotation file"):
        Coco(str(write_images("a.png")))


def official(root: Path, write_json: WriteJson, split: str, *names: str) -> None:
    """The annotation files of one split as COCO ships them."""
    boxes = coco_of(*names, boxes={0: [[0, 0, 2, 2, 1]]})
    write_json(root / f"annotations/instances_{split}.json", boxes)
    write_json(root / f"annotations/person_keypoints_{split}.json", boxes)
    captions = {"images": boxes["images"], "annotations": [{"id": 1, "image_id": 0, "caption": "a source"}]}
    write_json(root / f"annotations/captions_{split}.json", captions)


def test_the_annotations_folder_as_coco_ships_it(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("train2017/a.png", "val2017/a.png", "test2017/t.png")
    official(root, write_json, "train2017", "a.png")
    official(root, write_json, "val2017", "a.png")
    write_json(root / "annotations/image_info_test2017.json", {"images": [{"id": 1, "file_name": "t.png"}]})
    table = Coco(str(root)).table
    assert table.sample_ids == ("train2017/a.png", "val2017/a.png")
    assert table.splits.tolist() == ["train", "valid"]
    assert table.boxes is not None and len(table.boxes.row) == 2
    assert table.notice == (
        "Annotation files left out, since they hold no boxes: captions_train2017.json, "
        "person_keypoints_train2017.json, captions_val2017.json, person_keypoints_val2017.json, "
        "image_info_test2017.json.\n1 images that only these files list are left out."
    )


def test_captions_alone_beside_another_file_of_boxes(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png")
    write_json(root / "train.json", coco_of("a.png", boxes={0: [[0, 0, 2, 2, 1]]}))
    write_json(root / "captions_train.json", {"images": [], "annotations": [{"caption": "x"}]})
    write_json(root / "val_detections.json", [{"image_id": 0, "bbox": [0, 0, 2, 2], "category_id": 1, "score": 0.5}])
    assert "hold no boxes: captions_train.json, val_detections.json" in Coco(str(root)).table.notice


def test_a_split_whose_images_are_not_here(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("val/a.png")
    write_json(root / "train.json", coco_of("x.png", "y.png", boxes={}))
    write_json(root / "val.json", coco_of("a.png", boxes={}))
    table = Coco(str(root)).table
    assert table.sample_ids == ("val/a.png",)
    assert table.notice == "Annotation files left out, since they list no image that is here: train.json."


def test_names_as_people_write_them(write_images: WriteImages, write_json: WriteJson) -> None:
    from unicodedata import normalize

    accent = "\u00e9toile.png"
    root = write_images("images/a.png", "images/b.png", f"images/{normalize('NFD', accent)}")
    names = ("images\\a.png", "D:\\sky\\images\\b.png", normalize("NFC", accent))
    write_json(root / "annotations.json", coco_of(*names, boxes={}))
    assert Coco(str(root)).table.sample_ids == ("images/a.png", "images/b.png", f"images/{normalize('NFD', accent)}")


def test_boxes_that_cannot_be_used_are_counted(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png", "b.png")
    good, flat, wide, far = [1, 1, 2, 2, 2], [1, 1, 0, 2, 1], [0, 0, float("inf"), 1, 1], [20, 1, 2, 2, 1]
    boxes = {0: [good, flat, wide], 1: [[0, 0, 1, 1, 1], [0, 0, 1e30, 1, 1], far]}
    write_json(root / "annotations.json", coco_of("a.png", "b.png", boxes=boxes))
    table = Coco(str(root)).table
    assert table.boxes is not None
    assert table.boxes.xyxy.tolist() == [[1, 1, 3, 3], [0, 0, 1, 1]]
    assert table.labels["single_object"].tolist() == [1, 0]
    assert table.notice == (
        "3 boxes are left out, since they have no area: in a.png, b.png.\n"
        "1 boxes are left out, since they lie outside of their image: in b.png."
    )


def test_a_class_called_like_a_missing_label(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png")
    categories = [{"id": 1, "name": "N/A"}, {"id": 2, "name": "bent"}]
    boxes = {0: [[0, 0, 4, 4, 1], [1, 1, 2, 2, 2]]}
    write_json(root / "annotations.json", coco_of("a.png", boxes=boxes, categories=categories))
    table = Coco(str(root)).table
    assert (table.box_classes, len(table.boxes.row)) == (("bent",), 1)
    assert "1 boxes are left out, since they have no class: in a.png. Where N/A is the name" in table.notice
    kept = Coco(str(root), keep="N/A").table
    assert (kept.box_classes, len(kept.boxes.row)) == (("N/A", "bent"), 2)


def test_a_fits_image_of_another_size_is_unreadable(write_images: WriteImages, write_json: WriteJson) -> None:
    """The height that the annotation states turns its boxes upside down: it must be that of the image."""
    root = write_images("a.fits")
    content = coco_of("a.fits", boxes={0: [[0, 0, 1, 1, 1]]})
    content["images"][0]["height"] = 7
    write_json(root / "annotations.json", content)
    with pytest.raises(UnreadableImageError, match="the image is 8 x 6, but its boxes were drawn on 8 x 7"):
        Coco(str(root)).read(0)


@pytest.mark.parametrize("field", ["file_name", "name", "group"])
def test_text_that_is_not_unicode(write_images: WriteImages, write_json: WriteJson, field: str) -> None:
    root = write_images("a.png")
    content = coco_of("a.png", boxes={0: [[0, 0, 1, 1, 1]]})
    (content["categories"] if field == "name" else content["images"])[0][field] = "\ud800"
    write_json(root / "annotations.json", content)
    with pytest.raises(DatasetError, match=r"not Unicode|not there"):
        Coco(str(root))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just(10**400) | st.just("-1"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=6,
)


@pytest.fixture
def two_images(write_images: WriteImages) -> Path:
    return write_images("a.png", "b.fits")


# Each example writes over the file of the one before.
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_annotations_open_or_say_why(two_images: Path, write_json: WriteJson, data: st.DataObject) -> None:
    content = coco_of("a.png", "b.fits", boxes={0: [[0, 0, 2, 2, 1]], 1: [[1, 1, 2, 2, 2]]}, info={"box_origin": None})
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from([*content["images"], *content["annotations"], *content["categories"]]))
        keys = [*part, "split", "group", "ignore"]
        part[data.draw(st.sampled_from(keys))] = data.draw(VALUES)
    content["info"] = data.draw(st.just({}) | VALUES | VALUES.map(lambda value: {"box_origin": value}))
    write_json(two_images / "annotations.json", content)
    with suppress(SkyprobeError):
        boxes = Coco(str(two_images)).table.boxes
        assert boxes is not None and np.isfinite(boxes.xyxy).all()


def test_real_boxes_frame_their_sources(shared: Callable[[str], Path]) -> None:
    """Real boxes were drawn around islands above 4 sigma: the brightest pixel of a right box exceeds that."""
    root = shared("rgz_first_boxes")
    dataset = Coco(str(root))
    counts = {"train": 202, "test": 92}
    assert {split: int((dataset.table.splits == split).sum()) for split in counts} == counts
    assert dataset.table.boxes is not None
    assert int((~dataset.table.boxes.crowd).sum()) == 324
    annotated = json.loads((root / "annotations.json").read_text())
    assert [image["file_name"] for image in annotated["images"]] == list(dataset.table.sample_ids)
    for row in range(0, len(dataset), 10):
        image = dataset.read(row).image
        sigma = 1.4826 * np.median(np.abs(image - np.median(image)))
        for x0, y0, x1, y1 in dataset.table.boxes.of(row).astype(int):
            assert image[y0:y1, x0:x1].max() > 4 * sigma
