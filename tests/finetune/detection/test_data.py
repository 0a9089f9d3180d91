"""Data of a detection study: divided by the rules of the probes, and refused where nothing can be learnt."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from featurestore.errors import FinetuneError, LabelMismatchError, UsageError
from finetune.detection.data import prepare_data

SIDE = 64


def test_fractions_are_nested(root):
    data = prepare_data(f"coco:{root}", f"resize={SIDE}", "all")
    half, whole = ({truth.row for truth in data.training_images(percent, 0)} for percent in (50, 100))
    assert half < whole == set(range(6))


def test_a_set_without_test_objects(tmp_path, write_set):
    root = write_set(tmp_path, n_train=4, n_test=1)
    content = json.loads((root / "annotations.json").read_text())
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] != 4]
    (root / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(FinetuneError, match="a detector needs objects in training and in test images"):
        prepare_data(f"coco:{root}", f"resize={SIDE}", "all")


def test_a_crop_and_a_set_without_boxes(tmp_path, write_set):
    root = write_set(tmp_path)
    with pytest.raises(UsageError, match="a detector looks at whole images"):
        prepare_data(f"coco:{root}", "center-224", "all")
    empty = json.loads((root / "annotations.json").read_text()) | {"annotations": []}
    (root / "annotations.json").write_text(json.dumps(empty))
    with pytest.raises(LabelMismatchError, match="the dataset has no boxes"):
        prepare_data(f"coco:{root}", f"resize={SIDE}", "all")


def test_the_digest_follows_images_boxes_and_their_use(root, tmp_path):
    first = prepare_data(f"coco:{root}", f"resize={SIDE}", "all")
    assert first.digest == prepare_data(f"coco:{root}", f"resize={SIDE}", "all").digest
    assert first.digest != prepare_data(f"coco:{root}", f"resize={SIDE}", "source").digest, "classes"
    box = first.train.images[0]
    moved = replace(first.train, images=(replace(box, boxes=box.boxes + 1), *first.train.images[1:]))
    assert first.digest != replace(first, train=moved).digest, "boxes"
    assert first.digest != replace(first, train=first.test, test=first.train).digest, "use"


def test_without_validation_objects_the_test_images_are_watched(root):
    data = prepare_data(f"coco:{root}", f"resize={SIDE}", "all")
    assert data.watched is data.test
    assert "6 train, 0 valid, 3 test" in data.told
