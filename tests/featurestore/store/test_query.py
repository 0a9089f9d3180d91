from __future__ import annotations

import pytest

from featurestore.errors import AmbiguousFeaturesError, MissingFeaturesError, UnknownNameError
from featurestore.store import open_store
from featurestore.store.query import find_dataset, find_features

PLACE = ("galaxies", "resize=224,crop=box:0.2", "timm:resnet18.a1_in1k")


@pytest.fixture
def several(store, make_table, make_entry, make_key):
    """Two precisions of one backbone, and another backbone with one pooling."""
    table = make_table(3)
    one = make_entry(store, table)
    two = make_entry(store, table, precision="bf16", preprocessing={"resize": 320})
    three = store.create("galaxies", "full-224", "dino", make_key(backbone="dino"), {"cls": (3,)}, {})
    return one, two, three


def paths(found) -> set[str]:
    return {arrays.path for arrays in found}


def test_finding(store, several) -> None:
    one, two, three = several
    assert paths(store.find()) == paths(several)
    assert paths(store.find("galaxies")) == paths(several)
    assert paths(store.find(backbone="dino")) == {three.path}
    assert paths(store.find(variant=PLACE[1])) == {one.path, two.path}
    assert paths(store.find(*PLACE, precision="bf16")) == {two.path}
    assert paths(store.find(pooling="avg_patch")) == {one.path, two.path}
    assert paths(store.find(key=one.key.short)) == {one.path}
    assert paths(store.find(key=one.key.sha256)) == {one.path}
    assert paths(store.find(**{"preprocessing.resize": 320})) == {two.path}
    assert paths(store.find(weights_hash=one.key.weights_hash)) == paths(several)
    assert paths(store.find(preprocessing={"resize": 320})) == {two.path}
    assert store.find("nothing") == store.find(precision="fp16") == []


def test_found_features_know_their_names(store, several) -> None:
    (found,) = open_store(store.path).find(*PLACE, precision="bf16")
    assert (found.dataset, found.variant, found.backbone) == PLACE
    assert found.key == several[1].key


def test_a_field_that_no_key_has(store) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown field of a feature key 'precison'.*precision"):
        store.find(precison="fp32")


def test_selecting_one(store, several) -> None:
    assert store.select(backbone="dino").path == several[2].path
    assert store.select(*PLACE, precision="fp32").path == several[0].path


def test_missing_features_name_the_command(store, several) -> None:
    with pytest.raises(MissingFeaturesError) as caught:
        store.select("galaxies", "resize=480,crop=none", "dinov2", precision="fp32", pooling="cls")
    assert str(caught.value) == (
        "these features are not in the store [galaxies resize=480,crop=none dinov2 cls precision=fp32]. "
        "Run: skyprobe extract '/data/my galaxies' -b dinov2 -p resize=480,crop=none "
        f"--store {store.path} --pooling cls --precision fp32. Stored: full-224 dino cls, "
        "resize=224,crop=box:0.2 timm:resnet18.a1_in1k cls/avg_patch, "
        "resize=224,crop=box:0.2 timm:resnet18.a1_in1k cls/avg_patch."
    )


def test_an_unknown_dataset_is_called_by_its_name(store) -> None:
    with pytest.raises(MissingFeaturesError, match=r"Run: skyprobe extract first -b dino -p full-224.*Stored: none"):
        store.select("first", "full-224", "dino")
    with pytest.raises(MissingFeaturesError, match=r"Run: skyprobe ls --store \S+\. Stored: none"):
        store.select()
    with pytest.raises(MissingFeaturesError, match=r"Run: skyprobe extract sky/ -b dinov2-s --store"):
        store.select("sky/")


def test_several_keys_are_listed_with_what_differs(store, several) -> None:
    one, two, _ = several
    with pytest.raises(AmbiguousFeaturesError) as caught:
        store.load(*PLACE)
    text = str(caught.value)
    assert "2 stored features match" in text
    assert f"{one.key.short}: precision=fp32, preprocessing.crop.kind=box" in text
    assert f"{two.key.short}: precision=bf16, preprocessing.crop.kind=None" in text
    assert "Choose by precision or key, for example key=" in text
    assert "weights_hash" not in text


def test_several_backbones_are_chosen_by_name(store, several) -> None:
    with pytest.raises(
        AmbiguousFeaturesError, match=r"3 stored features match.*Choose by variant or backbone or precis"
    ):
        store.select("galaxies")


def test_features_are_found_by_what_is_given(full, store, make_entry, make_table) -> None:
    other = make_entry(store, make_table(10), precision="bf16")
    assert len(find_features(store, "galaxies")) == 2
    assert [found.key for found in find_features(store, "galaxies", key=other.key.short)] == [other.key]
    assert find_features(store, "galaxies", full.variant, full.backbone, full.key.sha256)[0].key == full.key
    with pytest.raises(MissingFeaturesError, match="skyprobe extract"):
        find_features(store, "galaxies", key="ffff")


def test_a_dataset_is_found_by_name_and_by_where_it_came_from(store, make_table, tmp_path, monkeypatch) -> None:
    source = f"image_folder:{tmp_path / 'my sky'}"
    store.put_dataset(make_table(3, source=source))
    store.put_dataset(make_table(3, name="first", source="first"))
    monkeypatch.chdir(tmp_path)
    for text in ("galaxies", source, str(tmp_path / "my sky"), "my sky", "image_folder:my sky"):
        assert find_dataset(store, text) == "galaxies"
    assert find_dataset(store, "first") == "first"
    for text in ("my", "fits:my sky", "~no-such-user/my sky", ""):
        assert find_dataset(store, text) is None


def test_of_two_datasets_from_one_place_neither_is_guessed(store, make_table, tmp_path) -> None:
    for name in ("a", "b"):
        store.put_dataset(make_table(3, name=name, source=f"image_folder:{tmp_path}"))
    assert find_dataset(store, str(tmp_path)) is None
