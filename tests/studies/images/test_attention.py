"""Attention over images of a dataset, and the store that keeps it."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import featurestore.backbones.loading
import featurestore.datasets
from featurestore.backbones.attention import attend
from featurestore.backbones.loading import load_backbone
from featurestore.datasets import open_dataset
from featurestore.errors import BackboneError, UnknownNameError, UsageError
from featurestore.samples import UNLABELLED
from featurestore.store import open_store
from studies.images.attention import cached_attention, gather_attention

VIT, SIZE = "timm:test_vit", "resize=64"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place, rng = tmp_path_factory.mktemp("data") / "sky", np.random.default_rng(0)
    for name in ("bent", "ring"):
        (place / name).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(rng.integers(0, 255, (64, 64), dtype=np.uint8)).save(place / name / f"{number}.png")
    return place


@pytest.fixture
def known(folder, tmp_path):
    """A store that knows the images, and its path."""
    path = str(tmp_path / "store.zarr")
    store, table = open_store(path, mode="a"), open_dataset(str(folder)).table
    store.put_dataset(table)
    return SimpleNamespace(store=store, name=table.name, path=path)


def get(known, backbone=VIT, variant=SIZE, **options):
    return cached_attention(known.store, known.name, backbone, variant, **{"weights": "random:0"} | options)


def forbid(*_args, **_options):
    raise AssertionError("the cache should have answered")


def test_maps_are_those_of_the_pictures(known):
    found = get(known, n_samples=4)
    assert [found.name(row) for row in range(4)] == ["bent", "bent", "ring", "ring"]
    model = load_backbone(VIT, "random:0", 64)
    maps = attend(model, np.moveaxis(found.pictures / np.float32(255), -1, 1))
    np.testing.assert_allclose(found.blocks, maps.blocks, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.rollout, maps.rollout, rtol=1e-5, atol=1e-7)
    assert (found.query, found.has_latent, found.weights_hash) == ("cls", False, model.weights_hash)
    np.testing.assert_allclose(found.last, maps.blocks[:, -1].mean(axis=1), rtol=1e-5, atol=1e-7)


def test_a_stored_one_is_the_same_and_needs_neither_images_nor_model(known, monkeypatch):
    made = get(known)
    monkeypatch.setattr(featurestore.datasets, "open_dataset", forbid)
    monkeypatch.setattr(featurestore.backbones.loading, "load_backbone", forbid)
    for name, value in vars(get(known)).items():
        np.testing.assert_array_equal(value, getattr(made, name), err_msg=name)


def test_a_stored_one_needs_no_torch(known):
    get(known, "siglip-b", n_samples=1)
    code = (
        "import sys; from featurestore.store import open_store; from studies.images.attention import cached_attention\n"
        f"store = open_store({known.path!r}, mode='a')\n"
        f"found = cached_attention(store, {known.name!r}, 'siglip-b', {SIZE!r}, weights='random:0', n_samples=1)\n"
        "print(found.pooled.shape, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "(1, 12, 4, 4) False", run.stderr


@pytest.mark.parametrize(
    "options",
    [{"weights": "random:1"}, {"seed": 5}, {"n_samples": 2}, {"variant": "resize=80"}, {"backbone": f"{VIT}@2"}],
)
def test_whatever_decides_it_makes_another(known, options):
    get(known)
    get(known, **options)
    assert len(known.store.list_cached("attention")) == 2


def test_named_images(known):
    table = known.store.dataset(known.name)
    wanted = [table.sample_ids[6], table.sample_ids[1]]
    assert list(get(known, sample_ids=wanted).sample_ids) == wanted


def test_several_bands_are_shown_by_the_first_three(known):
    found = get(known, variant="resize=64,channels=0-0-0-0")
    assert found.pictures.shape[1:] == (64, 64, 3)


def test_without_labels_images_have_their_ids(known):
    table = replace(known.store.dataset(known.name), name="plain", labels={}, classes={})
    known.store.put_dataset(table)
    found = cached_attention(known.store, "plain", VIT, SIZE, weights="random:0", n_samples=2)
    assert set(found.labels.tolist()) == {UNLABELLED}
    assert found.name(0) == found.sample_ids[0]


def test_what_cannot_be_shown_is_an_error(known):
    with pytest.raises(BackboneError, match="timm:test_resnet has no attention to show"):
        get(known, "timm:test_resnet")
    with pytest.raises(UsageError, match="no images are asked for"):
        get(known, n_samples=0)
    with pytest.raises(UnknownNameError, match="unknown backbone"):
        get(known, "dinov9")
    with pytest.raises(UnknownNameError, match="unknown sample"):
        get(known, sample_ids=["nothing.png"])
    assert known.store.list_cached("attention") == []


def test_a_study_shows_what_it_can_and_names_the_rest(known):
    told = []
    reporter = SimpleNamespace(notice=told.append)
    names, models = [known.name], ["timm:test_resnet", VIT]
    found = gather_attention(known.store, names, models, SIZE, reporter, weights="random:0", n_samples=1)
    assert [one.backbone for one in found] == [VIT]
    (text,) = told
    assert "No attention of timm:test_resnet" in text and "has no attention to show" in text
