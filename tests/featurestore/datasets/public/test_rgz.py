from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from featurestore.datasets.public.rgz import CLASSES, RGZ
from featurestore.errors import LabelMismatchError
from featurestore.testing import DatasetConformance

WriteImages = Callable[..., Path]
WriteJson = Callable[[Path, Any], None]
WriteVoc = Callable[..., None]
SCHEMES = ("components-peaks", "peaks", "components")


def annotations(*categories: str, objects: dict[int, list[int]]) -> dict[str, Any]:
    names = [f"{name}.png" for name in "abc"]
    return {
        "images": [{"id": n, "file_name": name} for n, name in enumerate(names)],
        "annotations": [
            {"id": 0, "image_id": n, "category_id": category, "bbox": [0, 0, 1, 1]}
            for n, own in objects.items()
            for category in own
        ],
        "categories": [{"id": n, "name": name} for n, name in enumerate(categories)],
    }


class TestConformance(DatasetConformance):
    @pytest.fixture
    def dataset(self, write_images: WriteImages, write_json: WriteJson) -> RGZ:
        root = write_images("a.png", "b.png", "c.png")
        write_json(root / "train.json", annotations("3C_3P", "1C-2P", objects={0: [0], 1: [1], 2: [0, 1]}))
        return RGZ(str(root))

    def test_the_schemes(self, dataset: RGZ) -> None:
        table = dataset.table
        assert table.schemes == (*SCHEMES, *(f"largest-{scheme}" for scheme in SCHEMES))
        assert table.classes["components-peaks"] == CLASSES
        assert [CLASSES[label] for label in table.labels["components-peaks"][:2]] == ["3C-3P", "1C-2P"]
        assert table.labels["peaks"].tolist() == [2, 1, -1]
        assert table.labels["components"].tolist() == [2, 0, -1]
        assert table.classes["peaks"] == table.classes["components"] == ("1", "2", "3")
        assert table.box_classes == ("3C-3P", "1C-2P")


class TestConformanceOnVoc(DatasetConformance):
    @pytest.fixture
    def dataset(self, write_images: WriteImages, write_voc: WriteVoc) -> RGZ:
        """As the public ClaRAN set has it: PNG images, one XML file each, classes without letters."""
        root = write_images("PNGImages/J0000_logminmax.png", "PNGImages/J0001_logminmax.png")
        write_voc(root / "Annotations/J0000_logminmax.xml", ("2_3", 1, 1, 8, 6))
        write_voc(root / "Annotations/J0001_logminmax.xml", ("1_1", 1, 1, 2, 2), ("1_2", 2, 2, 7, 6))
        (root / "ImageSets/Main").mkdir(parents=True)
        (root / "ImageSets/Main/trainD1.txt").write_text("J0000_logminmax\n")
        (root / "ImageSets/Main/testD1.txt").write_text("J0001_logminmax\n")
        return RGZ(str(root))

    def test_the_largest_object_sets_the_class(self, dataset: RGZ) -> None:
        table = dataset.table
        assert table.splits.tolist() == ["train", "test"]
        assert table.labels["components-peaks"].tolist() == [4, -1]
        assert table.labels["largest-components-peaks"].tolist() == [4, 1]
        assert table.labels["largest-peaks"].tolist() == [2, 1]
        assert table.labels["largest-components"].tolist() == [1, 0]
        assert table.classes["largest-components-peaks"] == CLASSES
        assert table.box_classes == ("1C-1P", "1C-2P", "2C-3P")


def test_the_same_class_written_in_two_ways(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png", "b.png", "c.png")
    write_json(root / "train.json", annotations("1_2", "1C-2P", "1C_1P", objects={0: [0], 1: [1], 2: [2]}))
    table = RGZ(str(root)).table
    assert table.box_classes == ("1C-2P", "1C-1P")
    assert table.boxes is not None
    assert table.boxes.label.tolist() == [0, 0, 1]
    assert table.labels["peaks"].tolist() == [1, 1, 0]


def test_another_category_is_refused(write_images: WriteImages, write_json: WriteJson) -> None:
    root = write_images("a.png", "b.png", "c.png")
    write_json(root / "train.json", annotations("1C-2P", "2C-1P", objects={}))
    with pytest.raises(LabelMismatchError, match="the category '2C-1P' is none of 1C-1P, 1C-2P"):
        RGZ(str(root))


def test_real_counts(shared: Callable[[str], Path]) -> None:
    """Objects of each class as its description counts them."""
    table = RGZ(str(shared("rgz_first_boxes"))).table
    assert table.boxes is not None
    objects = table.boxes.label[~table.boxes.crowd]
    counts = {name: int((objects == n).sum()) for n, name in enumerate(table.box_classes)}
    assert counts == {"1C-1P": 50, "1C-2P": 42, "1C-3P": 116, "2C-2P": 12, "2C-3P": 61, "3C-3P": 43}
