from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from featurestore.datasets import dataset_kinds, open_dataset
from featurestore.datasets.base import ImageDataset
from featurestore.datasets.opening import DETECTION_ORDER, READERS, source_of
from featurestore.errors import DatasetError, UnknownNameError, UsageError

WriteImages = Callable[..., Path]
ANNOTATIONS = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}


@pytest.fixture(params=DETECTION_ORDER)
def placed(
    request: pytest.FixtureRequest,
    write_images: WriteImages,
    write_json: Callable[[Path, Any], None],
    write_voc: Callable[..., None],
) -> tuple[str, Path]:
    """A kind, and a folder that is one of that kind."""
    root = write_images("class/a.fits" if request.param == "fits" else "a.png")
    match request.param:
        case "hf":
            datasets = pytest.importorskip("datasets")
            datasets.disable_progress_bars()
            features = datasets.Features({"image": datasets.Image()})
            data = {"image": [{"bytes": (root / "a.png").read_bytes(), "path": None}]}
            datasets.Dataset.from_dict(data, features=features).save_to_disk(str(root))
        case "galaxy_mnist":
            with h5py.File(root / "train_dataset.hdf5", "w") as file:
                file["images"], file["labels"] = np.zeros((1, 8, 8, 3), np.uint8), np.zeros(1, np.uint8)
        case "coco":
            write_json(root / "annotations.json", ANNOTATIONS)
        case "voc":
            write_voc(root / "a.xml")
        case "mirabest":
            (root / "batches.meta").write_bytes(pickle.dumps({"label_names": ["FRI"]}))
            batch = {"data": np.zeros((1, 150, 150), np.uint8), "labels": [0]}
            (root / "test_batch").write_bytes(pickle.dumps(batch))
        case "npy":
            np.save(root / "images.npy", np.zeros((1, 8, 8), np.uint8))
        case "table":
            (root / "sky.csv").write_text("file\na.png\n")
    return request.param, root


@pytest.mark.parametrize("name", ["run:3", "fits:m31"])
def test_a_folder_with_a_colon_in_its_name(
    write_images: WriteImages, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(write_images(f"{name}/a.png"))
    assert source_of(name) == f"image_folder:{Path(name).resolve()}"


def test_kind_and_path_win_over_a_folder_called_alike(
    write_images: WriteImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_images("fits:m31/a.png", "m31/a.fits"))
    assert source_of("fits:m31") == f"fits:{Path('m31').resolve()}"


def test_a_drive_letter_is_no_kind() -> None:
    with pytest.raises(DatasetError, match="no such file or folder"):
        open_dataset(r"C:\sky\images")


@pytest.mark.parametrize("text", ["", " "])
def test_nothing_is_not_the_current_folder(
    write_images: WriteImages, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(write_images("a.png"))
    with pytest.raises(UsageError, match="no dataset is named"):
        open_dataset(text)


def test_a_path_that_cannot_be_looked_up() -> None:
    with pytest.raises(DatasetError, match="the path cannot be looked up: File name too long"):
        open_dataset("a" * 5000)


@pytest.mark.parametrize("text", ["~nobody-of-that-name/sky", "fits:~nobody-of-that-name/sky"])
def test_a_home_that_is_not_there(text: str) -> None:
    with pytest.raises(DatasetError, match=r"no such home folder \[~nobody-of-that-name/sky\]"):
        open_dataset(text)


def test_the_path_is_no_option(write_images: WriteImages) -> None:
    root = str(write_images("a.png"))
    with pytest.raises(UnknownNameError, match="unknown option of image_folder 'path'"):
        open_dataset(root, path=root)


def test_the_kind_of_a_bare_path_is_detected(placed: tuple[str, Path]) -> None:
    kind, root = placed
    dataset = open_dataset(str(root))
    assert isinstance(dataset, ImageDataset)
    assert type(dataset) is READERS.get(kind)
    assert dataset.table.source == source_of(str(root)) == f"{kind}:{root.resolve()}"


def test_the_source_opens_it_again(placed: tuple[str, Path]) -> None:
    first = open_dataset(str(placed[1]))
    again = open_dataset(first.table.source)
    assert type(again) is type(first)
    assert again.table.name == first.table.name
    assert again.table.fingerprint == first.table.fingerprint
    np.testing.assert_array_equal(again.read(0).image, first.read(0).image)


def test_every_kind_that_is_detected_exists() -> None:
    assert set(DETECTION_ORDER) < set(READERS.names())


def test_a_catalogue_file_is_detected(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "sky.csv").write_text("file\na.png\n")
    assert open_dataset(str(root / "sky.csv")).table.source == f"table:{root.resolve()}/sky.csv"


def test_options_reach_the_reader(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "sky.csv").write_text("file,shape\na.png,disk\n")
    table = open_dataset(f"table:{root}", name="mine", labels="shape").table
    assert (table.name, table.schemes) == ("mine", ("shape",))


def test_an_option_that_the_reader_has_not(write_images: WriteImages) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown option of image_folder 'nam'.*Did you mean name"):
        open_dataset(str(write_images("a.png")), nam="mine")


def test_a_relative_path_and_a_home(write_images: WriteImages, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images("sky/a.png")
    monkeypatch.chdir(root)
    monkeypatch.setenv("HOME", str(root))
    assert (
        source_of("sky")
        == source_of("~/sky")
        == source_of("image_folder:~/sky")
        == f"image_folder:{root.resolve()}/sky"
    )


def test_pictures_beside_fits_images_are_both_read(write_images: WriteImages) -> None:
    root = write_images("a.png", "b.fits")
    assert open_dataset(str(root)).table.sample_ids == ("a.png", "b.fits")
    fits_alone = open_dataset(f"fits:{root}").table
    assert fits_alone.sample_ids == ("b.fits",)
    assert fits_alone.notice == "Files left out, since they are not read as images here: 1 x .png."


@pytest.mark.parametrize("name", ["", "notes.txt"])
def test_nothing_to_recognise(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DatasetError, match="no dataset is recognised here"):
        open_dataset(str(tmp_path / name))


@pytest.mark.parametrize("text", ["none", "fits:none", "./none"])
def test_a_missing_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match=r"no such file or folder \[none\]"):
        open_dataset(text)


def test_an_unknown_kind_offers_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown dataset kind 'galaxymnist'.*Did you mean galaxy_mnist"):
        open_dataset("galaxymnist:/nowhere")


@pytest.mark.parametrize("text", ["rgz", "rgz:"])
def test_a_kind_without_its_path(text: str) -> None:
    with pytest.raises(UsageError, match=r"the dataset kind rgz needs a path .*Write rgz:PATH"):
        open_dataset(text)


def test_a_folder_called_like_a_kind(write_images: WriteImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_images("rgz/a.png"))
    assert source_of("rgz").startswith("image_folder:")


@pytest.mark.skipif(find_spec("firstgalaxydata") is None, reason="firstgalaxydata is not installed")
def test_the_shortcut_wins_over_a_folder(write_images: WriteImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_images("first/a.png"))
    assert source_of("first") == "first"
    assert open_dataset("first", name="radio").table.name == "radio"
    assert source_of("./first").startswith("image_folder:")


def test_every_kind_says_what_it_reads() -> None:
    kinds = dataset_kinds()
    assert list(kinds) == READERS.names()
    assert all(text.endswith(".") for text in kinds.values())


def test_listing_the_kinds_loads_no_heavy_library() -> None:
    heavy = {"torch", "datasets", "astropy", "h5py", "pandas", "pyarrow"}
    code = f"import sys, featurestore.datasets as d; d.dataset_kinds(); print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_sky_groups_are_asked_for_by_an_ending(write_images: Callable[..., Path]) -> None:
    root = write_images("1.000_2.000.png", "1.001_2.000.png", "7.000_2.000.png")
    plain, grouped = open_dataset(str(root)), open_dataset(f"{root},groups=sky:10")
    assert plain.table.groups is None
    assert grouped.table.groups.tolist() == ["1.000_2.000.png", "1.000_2.000.png", "7.000_2.000.png"]
    assert grouped.table.name == plain.table.name
    assert grouped.table.source == source_of(f"{root},groups=sky:10") == plain.table.source + ",groups=sky:10"
    assert isinstance(grouped, ImageDataset) and len(grouped) == 3 and grouped.decoder == "pillow"
    np.testing.assert_array_equal(grouped.read(1).image, plain.read(1).image)


def test_options_at_the_end_of_the_text(write_images: WriteImages, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_images("sky/a.png", "sky/b.png")
    (root / "cat.csv").write_text("png,fr,bar,fold\na.png,1,x,train\nb.png,NA,y,test\n")
    monkeypatch.chdir(root)
    text = "sky,split=fold,catalogue=cat.csv,file=png,labels=fr+bar,keep=NA"
    table = open_dataset(text).table
    assert table.classes == {"fr": ("1", "NA"), "bar": ("x", "y")}
    assert table.splits.tolist() == ["train", "test"]
    assert table.source == source_of(text)
    assert table.source == f"table:{root}/sky,catalogue={root}/cat.csv,file=png,labels=fr+bar,split=fold,keep=NA"
    monkeypatch.chdir("/")
    again = open_dataset(table.source).table
    assert (again.source, again.classes, again.name) == (table.source, table.classes, table.name)


def test_other_labels_are_the_same_dataset(write_images: WriteImages) -> None:
    root = write_images("a.png")
    (root / "cat.csv").write_text("file,fr\na.png,1\n")
    plain, chosen = open_dataset(str(root)), open_dataset(f"{root},labels=fr")
    assert (plain.table.name, plain.table.fingerprint) == (chosen.table.name, chosen.table.fingerprint)
    assert (plain.table.schemes, chosen.table.schemes) == ((), ("fr",))
    np.testing.assert_array_equal(plain.read(0).image, chosen.read(0).image)


def test_options_and_groups_in_either_order(write_images: WriteImages) -> None:
    root = write_images("NA/1.000_2.000.png", "b/1.001_2.000.png")
    first, second = open_dataset(f"{root},groups=sky:10,keep=NA"), open_dataset(f"{root},keep=NA,groups=sky:10")
    assert first.table.source == second.table.source == f"image_folder:{root},keep=NA,groups=sky:10"
    assert source_of(f"{root},groups=sky:10,keep=NA") == first.table.source
    assert first.table.classes == {"class": ("NA", "b")}
    assert len(set(first.table.groups.tolist())) == 1


def test_an_unknown_option_in_the_text(write_images: WriteImages) -> None:
    root = write_images("a.png")
    with pytest.raises(UnknownNameError, match=r"unknown option of a dataset 'label'.*Did you mean labels"):
        open_dataset(f"{root},label=fr")
    with pytest.raises(UsageError, match=r"image_folder has no columns to choose labels from .*Give the catalogue too"):
        open_dataset(f"{root},labels=fr")


def test_a_folder_with_a_comma_and_an_equals_sign(write_images: WriteImages) -> None:
    root = write_images("run,z=0.5/a.png")
    assert len(open_dataset(f"{root}/run,z=0.5")) == 1


@pytest.mark.parametrize(("image", "kind"), [("a.png", "table"), ("a.fits", "fits")])
def test_a_catalogue_that_is_given_decides_the_kind(write_images: WriteImages, image: str, kind: str) -> None:
    root = write_images(f"sky/{image}")
    for name in ("one.csv", "two.csv"):
        (root / name).write_text(f"file,label\n{image},{name}\n")
        (root / "sky" / name).write_text("neither")
    table = open_dataset(f"{root}/sky,catalogue={root}/two.csv").table
    assert table.source == f"{kind}:{root}/sky,catalogue={root}/two.csv"
    assert table.classes == {"label": ("two.csv",)}
