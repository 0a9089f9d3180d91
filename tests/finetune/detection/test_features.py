"""Detection heads on stored dense features: the same as on images, without a forward of the backbone."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import finetune.detection.features
import finetune.detection.study
from featurestore.datasets import open_dataset
from featurestore.errors import FinetuneError, MissingFeaturesError, UsageError
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.preprocessing import Preprocessing
from featurestore.store import open_store
from finetune.detection.data import prepare_data
from finetune.detection.detector import Architecture
from finetune.detection.features import StoredMaps, load_views
from finetune.detection.study import DetectionStudy, detect_study, make_detector
from finetune.detection.targets import DetectionImages, read_annotations
from finetune.detection.training import TrainingOptions, train_detector

SIDE, NET = 64, "timm:test_vit"


class Quiet:
    def progress(self, label):
        return lambda _done, _total: None

    def notice(self, text):
        pass


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Grey squares with one bright square each, and their boxes in COCO."""
    import json

    root, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    images, annotations = [], []
    for number in range(8):
        pixels = rng.integers(0, 40, (SIDE, SIDE), dtype=np.uint8)
        x, y = (int(corner) for corner in rng.integers(2, 40, 2))
        pixels[y : y + 18, x : x + 14] += np.uint8(180)
        Image.fromarray(pixels).save(root / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": SIDE, "width": SIDE,
                       "split": "train" if number < 5 else "test"})  # fmt: skip
        annotations.append({"id": number, "image_id": number, "category_id": 0, "bbox": [x, y, 14, 18], "iscrowd": 0})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 0, "name": "square"}]}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def store(root, tmp_path_factory):
    """Dense features of two views, in exact arithmetic."""
    store = open_store(str(tmp_path_factory.mktemp("store") / "store.zarr"), mode="a", block_rows=4)
    options = ExtractionOptions(weights="random:0", engine="torch", dtype="float32", poolings=("patches",), workers=1)
    extract_features(
        open_dataset(f"coco:{root}"), [NET], [f"resize={SIDE}", f"resize={SIDE},orientation=5"], store, options
    )
    return store


def study(root, **changes):
    own = DetectionStudy(
        f"coco:{root}",
        (NET,),
        variant=f"resize={SIDE}",
        weights="random:0",
        training=TrainingOptions(
            epochs=2,
            batch_size=3,
            learning_rate=0.01,
            augmentation=None,
            architecture=Architecture(channels=16, hidden=32, regions=32),
        ),
    )
    return replace(own, **changes)


def views_of(store, data, orientations=(0, 5)):
    views = load_views(store, data.dataset.table.name, data.variant, data.preprocessing, NET)
    kept = [n for n, one in enumerate(views.preprocessings) if one.orientation in orientations]
    pick = lambda values: tuple(values[n] for n in kept)  # noqa: E731
    return replace(views, preprocessings=pick(views.preprocessings), values=pick(views.values), rows=pick(views.rows))


def test_training_on_stored_features_is_training_on_images(root, store):
    """One view: the weights are those of the same training that forwards the frozen backbone in every epoch."""
    data = prepare_data(f"coco:{root}", f"resize={SIDE}", "all")
    views = views_of(store, data, (0,))
    states = []
    for given, inputs in [(None, data.inputs), (views, lambda annotated: StoredMaps(views, annotated))]:
        detector = make_detector(study(root), data, NET, 0, given)
        train_detector(detector, inputs(data.train.images), study(root).training, 0)
        states.append({name: one for name, one in detector.state_dict().items() if not name.startswith("body.")})
    assert states[0].keys() == states[1].keys()
    for name, one in states[0].items():
        torch.testing.assert_close(one, states[1][name], rtol=1e-3, atol=1e-4)


def test_every_view_has_the_boxes_of_its_own_pixels(root):
    """A nearest-neighbour view shows the bright square exactly where its target says."""
    dataset = open_dataset(f"coco:{root}")
    for orientation in range(8):
        view = Preprocessing(resize=SIDE, interpolation="nearest", orientation=orientation)
        upright = replace(view, orientation=0)
        annotated = read_annotations(dataset, np.arange(3), upright).images
        for image, target in (DetectionImages(dataset, annotated, view)[n] for n in range(3)):
            rows, columns = np.nonzero(image[0].numpy() > 0.5)
            expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            np.testing.assert_allclose(target["boxes"][0].numpy(), expected, atol=1e-4)


def test_views_follow_the_images(root, store):
    data = prepare_data(f"coco:{root}", f"resize={SIDE}", "all")
    maps = StoredMaps(views_of(store, data), data.train.images)
    assert (len(maps), maps.n_views) == (5, 2)
    for index in (0, 3, 5, 9):
        _, target = maps[index]
        turned = Preprocessing(resize=SIDE, orientation=5 if index >= 5 else 0)
        _, expected = DetectionImages(data.dataset, data.train.images, turned)[index % 5]
        assert torch.equal(target["boxes"], expected["boxes"])
    assert not torch.equal(maps[0][0], maps[5][0])
    assert maps.collate([maps[0][0], maps[1][0]])["last"].shape == (2, 64, 4, 4)


def test_a_study_from_the_store_loads_no_backbone(root, store, tmp_path, monkeypatch):
    monkeypatch.setattr(finetune.detection.study, "load_body", None)
    result = detect_study(study(root, mode="stored"), store, tmp_path, Quiet())
    frame = pd.read_csv(result.files["results.csv"], dtype={"key": str})
    assert frame["head"].unique().tolist() == ["detect:stored"]
    assert frame["key"].unique().tolist() == [store.select(variant=f"resize={SIDE}").key.short]
    assert '"views": 2' in frame["params"][0]


def test_what_the_mode_needs(root, store, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="the mode stored needs a store"):
        detect_study(study(root, mode="stored"), None, tmp_path, Quiet())
    with pytest.raises(MissingFeaturesError, match=r"Run: skyprobe extract .*resize=128.*--pooling patches"):
        detect_study(study(root, mode="stored", variant="resize=128"), store, tmp_path, Quiet())
    with pytest.raises(UsageError, match=r"a detector is tested on upright images.*--mode stored finds"):
        prepare_data(f"coco:{root}", f"resize={SIDE},orientation=1", "all")
    monkeypatch.setattr(finetune.detection.features, "available_memory", lambda: 1000)
    with pytest.raises(FinetuneError, match=r"2 views of the dense features take .* GB.*fewer views"):
        detect_study(study(root, mode="stored"), store, tmp_path, Quiet())


def test_an_image_without_features(root, store):
    data = prepare_data(f"coco:{root}", f"resize={SIDE}", "all")
    with pytest.raises(FinetuneError, match=r"1 images have no dense features, new\.png among them"):
        StoredMaps(views_of(store, data, (0,)), [SimpleNamespace(sample_id="new.png")])
