"""The command line from end to end, on generated images and a tiny model with random weights."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from click.testing import CliRunner
from PIL import Image

from cli import main
from featurestore.datasets.public.registry import REMOTE, RemoteDataset, RemoteFile
from featurestore.store import open_store

BACKBONE = "timm:test_efficientnet"
MODEL = ["-b", BACKBONE, "-p", "resize=64"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three classes of shapes that any features tell apart, in class folders, with one broken file."""
    folder = tmp_path_factory.mktemp("data") / "galaxies"
    rng = np.random.default_rng(0)
    for number, name in enumerate(("bar", "disc", "ring")):
        (folder / name).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 30, (64, 64), dtype=np.uint8)
            pixels[:, number * 20 : number * 20 + 18] += np.uint8(150)
            Image.fromarray(pixels).save(folder / name / f"{index:02d}.png")
    (folder / "bar" / "broken.png").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def store(images, tmp_path_factory):
    """A store with the features of `images`; the exit code says that one image is unreadable."""
    path = tmp_path_factory.mktemp("store") / "store.zarr"
    result = run("extract", images, *MODEL, "--weights", "random:0", "--engine", "torch", "--store", path)
    assert result.exit_code == 3, result.output
    assert "60 stored, 1 unreadable" in result.output
    assert "broken.png: the file is empty" in result.output
    return path


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def run_json(*words):
    result = run(*words, "--json")
    return json.loads(result.stdout)


def test_a_second_extraction_embeds_nothing(images, store):
    shown = run_json("extract", images, *MODEL, "--weights", "random:0", "--engine", "torch", "--store", store)
    assert shown["costs"]["images"] == 0
    assert list(shown["unreadable"]) == ["bar/broken.png"]


def test_probe_prints_a_table_and_writes_it(images, store, tmp_path):
    result = run(
        "probe", images, *MODEL, "--store", store, "--head", "linear,knn", "--fractions", "50,100", "--seeds", "2",
        "-o", tmp_path,
    )  # fmt: skip
    assert result.exit_code == 3, "unreadable images are told at every step"
    assert "knn" in result.stdout and "100 %" in result.stdout
    frame = pd.read_csv(tmp_path / "results.csv")
    assert len(frame[["head", "fraction", "seed"]].drop_duplicates()) == 2 * 2 * 2


def test_a_mapping_file_in_place_of_a_label_scheme(images, store, tmp_path):
    (tmp_path / "round.csv").write_text("class,round\ndisc,yes\nbar,no\n")
    result = run(
        "probe", images, *MODEL, "--store", store, "--fractions", "100", "--seeds", "1",
        "--labels", tmp_path / "round.csv", "-o", tmp_path,
    )  # fmt: skip
    assert set(pd.read_csv(tmp_path / "results.csv")["scheme"]) == {"round"}
    assert "unlabelled are the samples of class ring (20)" in result.stderr


def test_layers_stand_beside_each_other(images, tmp_path):
    models = ["-b", BACKBONE, "-b", f"{BACKBONE}@2", "-p", "resize=64", "--store", tmp_path / "store.zarr"]
    extracted = run_json("extract", images, *models, "--weights", "random:0", "--engine", "torch")
    assert extracted["costs"]["forwards"] == extracted["costs"]["images"] - 1, "one pass; one file is broken"
    run("probe", images, *models, "--head", "knn", "--fractions", "100", "--seeds", "1", "-o", tmp_path)
    assert set(pd.read_csv(tmp_path / "results.csv")["backbone"]) == {BACKBONE, f"{BACKBONE}@2"}


def test_attention_is_drawn_and_kept(images, tmp_path):
    words = ["attention", images, "-b", "timm:test_vit", "-p", "resize=64", "--weights", "random:0", "--samples", "3"]
    words += ["--percentile", "80", "-o", tmp_path / "figures", "--store", tmp_path / "store.zarr"]
    shown = run_json(*words)
    names = {path.name.split("-attention-")[0] for path in (tmp_path / "figures").iterdir()}
    assert names == {"figure-6", "figure-a"}
    assert len(shown["files"]) == 2 * 3
    before = {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()}
    assert run(*words).exit_code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "figures").iterdir()} == before
    assert open_store(str(tmp_path / "store.zarr")).list_cached("attention") != []


def test_a_cnn_has_no_attention_to_draw(images, tmp_path):
    result = run("attention", images, *MODEL, "--weights", "random:0", "-o", tmp_path, "--store", tmp_path / "s.zarr")
    assert result.exit_code == 1
    assert "has no attention to show" in result.stderr and "plain vision transformer" in result.stderr


@pytest.mark.parametrize("words", [["probe", *MODEL], ["report", *MODEL], ["umap", *MODEL], ["rm", "--yes"]])
def test_a_mistyped_store_is_an_error_and_is_not_made(images, tmp_path, words):
    result = run(words[0], images, *words[1:], "--store", tmp_path / "typo.zarr")
    assert result.exit_code == 1
    assert "there is no store" in result.stderr
    assert not (tmp_path / "typo.zarr").exists()


def test_a_mistyped_store_is_not_repaired_into_being(tmp_path):
    assert run("verify", "--repair", "--store", tmp_path / "typo.zarr").exit_code == 1
    assert not (tmp_path / "typo.zarr").exists()


def test_epochs_reach_the_heads_that_have_them(images, store, tmp_path):
    words = ["--protocol", "paper", "--epochs", "2", "--head", "linear,knn", "--fractions", "100", "--seeds", "1"]
    run("probe", images, *MODEL, "--store", store, *words, "-o", tmp_path)
    params = pd.read_csv(tmp_path / "results.csv").groupby("head")["params"].first().map(json.loads)
    assert params["linear"]["epochs"] == 2
    assert "epochs" not in params["knn"]


def test_probe_without_features_prints_the_extract_command(images, store):
    result = run("probe", images, "-b", BACKBONE, "-p", "center-224", "--store", store)
    assert result.exit_code == 1
    assert "skyprobe extract" in result.stderr and "center-224" in result.stderr


def test_weights_choose_among_keys(images, store):
    words = ["probe", images, *MODEL, "--store", store, "--fractions", "100", "--seeds", "1"]
    assert run(*words, "--weights", "random:0").exit_code == 3
    result = run(*words, "--weights", "random:7")
    assert result.exit_code == 1
    assert "skyprobe extract" in result.stderr and "--weights random:7" in result.stderr


def test_probe_with_several_keys_lists_them(images, store, tmp_path):
    other = tmp_path / "two.zarr"
    for dtype in ("float16", "float32"):
        run("extract", images, *MODEL, "--weights", "random:0", "--engine", "torch", "--dtype", dtype, "--store", other)
    result = run("probe", images, *MODEL, "--store", other)
    assert result.exit_code == 1
    assert "2 stored features match" in result.stderr
    assert "float16" in result.stderr and "float32" in result.stderr
    fields = {row["field"] for row in run_json("explain", images, "--store", other)}
    assert fields == {"dtype"}


def test_saved_heads_predict_every_row(images, store, tmp_path):
    run("probe", images, *MODEL, "--store", store, "--fractions", "100", "--seeds", "1", "--save")
    (head,) = run_json("predict", images, "--store", store)
    result = run("predict", images, "--head", head["short"], "--store", store, "-o", tmp_path / "out.parquet")
    assert result.exit_code == 0, result.output
    frame = pd.read_parquet(tmp_path / "out.parquet")
    assert len(frame) == 61
    assert frame["reason"].astype(bool).sum() == 1
    readable = frame[~frame["sample_id"].str.contains("broken")]
    np.testing.assert_allclose(readable.filter(like="p_").sum(axis=1), 1, atol=1e-5)
    right = readable["predicted"] == readable["sample_id"].str.split("/").str[0]
    assert right.mean() > 0.9, "three plainly different classes"


def test_store_verbs(images, store, tmp_path):
    (row,) = run_json("ls", "--store", store)
    assert (row["done"], row["unreadable"], row["missing"]) == (60, 1, 0)
    (details,) = run_json("info", images, "--store", store)
    assert details["key_fields"]["weights_hash"] and details["provenance"]["versions"]["torch"]
    checked = run_json("verify", "--store", store, "--audit", 4, "--data", images)
    assert checked["problems"] == [] and [audit["wrong"] for audit in checked["audits"]] == [[]]
    assert run("export", images, tmp_path / "features.npz", "--store", store).exit_code == 0
    assert np.load(tmp_path / "features.npz", allow_pickle=True)["values"].shape[0] == 60


def test_rm_asks_and_removes(images, tmp_path):
    path = tmp_path / "store.zarr"
    run("extract", images, *MODEL, "--weights", "random:0", "--engine", "torch", "--store", path)
    assert CliRunner().invoke(main, ["rm", str(images), "--store", str(path)], input="n\n").exit_code == 1
    assert len(run_json("ls", "--store", path)) == 1
    assert run("rm", images, "--store", path, "--yes").exit_code == 0
    assert run_json("ls", "--store", path) == []


def test_extract_tells_and_chooses_the_columns_of_a_catalogue(images, tmp_path):
    catalogue = tmp_path / "cat.csv"
    names = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png"))
    rows = (f"{name},{'NA' if number % 2 else 'SA'},{number}" for number, name in enumerate(names))
    catalogue.write_text("\n".join(["png, bar ,flux", *rows]))
    options = ["--catalogue", str(catalogue), "--file-column", "png", "--label-column", "bar", "--keep-label", "NA"]
    done = run(
        "extract", images, *MODEL, *options, "--weights", "random:0", "--dry-run", "--store", tmp_path / "s.zarr"
    )
    assert done.exit_code == 0, done.output
    assert "Columns of cat.csv: images from png; labels from bar. Not used: flux." in done.stderr
    assert f"DATA for other commands: {images},catalogue={catalogue},file=png,labels=bar,keep=NA" in done.stderr


def test_dry_run_states_the_work_and_writes_nothing(images, tmp_path):
    path = tmp_path / "none.zarr"
    shown = run_json(
        "extract", images, *MODEL, "-p", "full-224", "--weights", "random:0", "--engine", "torch", "--store", path,
        "--dry-run",
    )  # fmt: skip
    assert (shown["images"], shown["forwards"]) == (61, 122)
    assert shown["bytes"] == 122 * 256 * 2
    assert shown["seconds"] > 0
    assert not path.exists()


def test_a_study_file_runs_and_is_idempotent(images, tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(
        f'datasets = ["{images}"]\nbackbones = ["{BACKBONE}"]\nvariants = ["resize=64"]\n'
        '[extract]\nweights = "random:0"\nengine = "torch"\n'
        '[probe]\nheads = ["linear"]\nfractions = [100]\nseeds = 1\n[figures]\nprojection = false\n'
    )
    words = ["run", study, "--store", tmp_path / "store.zarr", "-o", tmp_path / "out"]
    first = run(*words)
    assert first.exit_code == 3, first.output
    page = (tmp_path / "out" / "report.html").read_bytes()
    assert b"broken.png" in page
    tables = (tmp_path / "out" / "results.csv").read_bytes()
    shown = run_json(*words)
    assert shown["extractions"][0]["costs"]["images"] == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == tables


def test_a_study_may_show_attention_and_diagnostics(images, tmp_path):
    (tmp_path / "study.toml").write_text(
        f'datasets = ["{images}"]\nbackbones = ["{BACKBONE}", "timm:test_vit"]\nvariants = ["resize=64"]\n'
        '[extract]\nweights = "random:0"\nengine = "torch"\n'
        '[probe]\nheads = ["centroid"]\nfractions = [100]\nseeds = 1\n'
        "[figures]\nprojection = false\nattention = true\ndiagnostics = true\n"
    )
    result = run("run", tmp_path / "study.toml", "--store", tmp_path / "store.zarr", "-o", tmp_path / "out")
    assert "test_efficientnet" in result.stderr
    assert "attention" in result.stderr, "a network without attention is named"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "attention" in page
    assert "debiased linear CKA" in page
    drawn = {path.name for path in (tmp_path / "out" / "figures").glob("*.pdf")}
    assert any("attention" in name for name in drawn)
    assert any("cka" in name for name in drawn)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["extract", "DATA", "-b", "dinov2", "-p", "full-224"], 2, "Did you mean"),
        (["extract", "DATA", "-b", BACKBONE, "-p", "ful-224"], 2, "full-224"),
        (["extract", "/nowhere/at/all", "-b", BACKBONE], 1, "/nowhere/at/all"),
        (["extract", "DATA"], 2, "Missing option"),
        (["probe", "DATA", *MODEL, "--fractions", "ten"], 2, "not a list of whole percents"),
        (["probe", "DATA", *MODEL, "--head", "lineal"], 2, "linear"),
        (["probe", "DATA", *MODEL, "--protocol", "papre"], 2, "paper"),
        (["probe", "DATA", *MODEL, "--epochs", "0"], 2, "epochs should be greater than or equal to 1"),
        (["run", "/nowhere.toml"], 2, "cannot read the study"),
        (["verify", "--audit", "3"], 2, "--data"),
    ],
)
def test_refusals_say_why_and_exit_by_kind(images, store, words, code, message):
    given = [str(images) if word == "DATA" else word for word in words]
    result = run(*given, "--store", store)
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_a_tuned_model_is_a_row_of_the_report_and_a_backbone(images, tmp_path):
    store = tmp_path / "store.zarr"
    train = ["finetune", images, *MODEL, "--weights", "random:0", "--mode", "head", "--epochs", "2", "--store", store]
    result = run(*train, "-o", tmp_path / "tuned")
    assert result.exit_code == 3, result.output
    assert "finetune:head" in result.stdout
    (folder,) = (tmp_path / "tuned" / "models").iterdir()
    assert {"model.safetensors", "card.json", "README.md", "history.csv"} <= {path.name for path in folder.iterdir()}

    tuned = ["-b", f"tuned:{folder}", "-p", "resize=64"]
    assert run("extract", images, *tuned, "--engine", "torch", "--store", store).exit_code == 3
    words = [*tuned, "--store", store, "--fractions", "100", "--seeds", "1", "-o", tmp_path / "report"]
    assert run("report", images, *words).exit_code == 3
    rows = pd.read_csv(tmp_path / "report" / "results.csv")[["backbone", "head"]].drop_duplicates()
    assert sorted(rows.itertuples(index=False, name=None)) == [
        (BACKBONE, "finetune:head"),
        (f"tuned:{folder}", "linear"),
    ]


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Images of one bright square each, with its box in COCO."""
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    images, boxes = [], []
    for number in range(8):
        pixels = rng.integers(0, 40, (64, 64), dtype=np.uint8)
        pixels[10:30, 5 * number : 5 * number + 20] += np.uint8(180)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        split = "train" if number < 5 else "test"
        images.append({"id": number, "file_name": f"{number}.png", "height": 64, "width": 64, "split": split})
        boxes.append({"id": number, "image_id": number, "category_id": 0, "bbox": [5 * number, 10, 20, 20]})
    content = {"images": images, "annotations": boxes, "categories": [{"id": 0, "name": "square"}]}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


def test_detection_from_images_and_from_the_store(squares, tmp_path):
    small = ["--epochs", "1", "--channels", "16", "--hidden", "32", "--regions", "32"]
    model, data = ["-b", "timm:test_vit", "-p", "resize=64"], f"coco:{squares}"
    detect = ["detect", data, *model, *small, "-o", tmp_path / "out"]
    result = run(*detect, "--weights", "random:0", "--log", "tensorboards")
    assert result.exit_code == 2 and "Did you mean tensorboard" in result.stderr
    result = run(*detect, "--weights", "random:0")
    assert result.exit_code == 0, result.output
    assert "detect:frozen" in result.stdout

    stored = [*detect, "--mode", "stored", "--store", tmp_path / "store.zarr"]
    assert run(*stored).exit_code == 1
    run("extract", data, *model, "--pooling", "patches", "--weights", "random:0", "--store", tmp_path / "store.zarr")
    assert "detect:stored" in run(*stored).stdout
    refused = run("probe", data, *model, "--store", tmp_path / "store.zarr")
    assert refused.exit_code == 1 and "dense features are not one vector a sample" in refused.stderr


def test_lists():
    assert {"full-224", "center-224"} <= {row["variant"] for row in run_json("variants")}
    rows = {row["name"]: row for row in run_json("backbones")}
    shown = {"params": "3.4 M", "licence": "Apache-2.0", "present": "yes"}
    assert rows["efficientnet-lite0"] | shown == rows["efficientnet-lite0"]
    assert {"first", "image_folder", "fits"} <= {row["kind"] for row in run_json("datasets")}


def test_crops_of_an_image_can_be_embedded(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(2, 80, 100)).astype(np.float32)
    pixels[0, :10, :10] = np.nan
    fits.writeto(tmp_path / "field.fits", pixels)
    (tmp_path / "sources.csv").write_text("x,y,major,minor,theta\n50,20,8,4,30\n70,70,6,6,0\n5,5,6,6,0\n")
    words = ("datasets", "crop", tmp_path / "field.fits", "--catalogue", tmp_path / "sources.csv", "--size", "32")
    shown = run_json(*words, "-o", tmp_path / "crops")
    assert (shown["crops"], shown["boxes"], shown["dropped_with_nan"], shown["sources_in_no_crop"]) == (1, 1, 1, 2)
    again = run(*words, "-o", tmp_path / "crops")
    assert "images_cut_now: 0" in again.stdout and f"dataset: coco:{tmp_path / 'crops'}" in again.stdout
    stored = run(
        "extract", shown["dataset"], "-b", BACKBONE, "-p", "resize=64,stretch=unit", "--weights", "random:0",
        "--engine", "torch", "--store", tmp_path / "store.zarr",
    )  # fmt: skip
    assert stored.exit_code == 0 and "1 stored, 0 unreadable" in stored.stdout
    refused = run(*words, "-o", tmp_path / "crops", "--physical")
    assert refused.exit_code == 1 and "holds crops that differ in percentiles" in refused.stderr


def test_fetch_says_where_the_dataset_is_and_whom_to_cite(tmp_path, monkeypatch):
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "labels.npy").write_bytes(b"1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=tmp_path / "site"))
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    files = tuple(
        RemoteFile(f"http://127.0.0.1:{server.server_port}/{name}", name) for name in ("labels.npy", "images.npy")
    )
    monkeypatch.setitem(REMOTE, "toy", RemoteDataset("npy", files[:1], "Cite us."))
    monkeypatch.setitem(REMOTE, "dead", RemoteDataset("npy", files, "Cite us."))
    with server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        result = run("datasets", "fetch", "toy", "-o", tmp_path / "toy")
        dead = run("datasets", "fetch", "dead", "-o", tmp_path / "dead")
        server.shutdown()
    assert result.exit_code == 0
    assert f"dataset: npy:{tmp_path / 'toy'}\nterms: Cite us." in result.stdout
    assert "labels.npy: 100%" in result.stderr
    assert dead.exit_code == 1
    assert "skyprobe: the link is dead: HTTP 404 File not found" in dead.stderr


def test_help_of_every_verb_loads_no_torch():
    code = (
        "import sys, cli\nfrom click.testing import CliRunner\n"
        "for name in cli.main.commands: assert CliRunner().invoke(cli.main, [name, '--help']).exit_code == 0\n"
        "heavy = {'torch', 'timm', 'numpy', 'pandas', 'zarr', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_extracting_into_a_complete_store_imports_no_heavy_library(images, store):
    options = ["--weights", "random:0", "--engine", "torch", "--store", str(store)]
    code = (
        "import contextlib, sys, cli\n"
        "with contextlib.suppress(SystemExit):  # one image is unreadable\n"
        f"    cli.main({['extract', str(images), *MODEL, *options]!r}, standalone_mode=False)\n"
        "heavy = {'torch', 'timm', 'transformers', 'openvino', 'sklearn', 'pandas'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_advice_cites_runs_or_gives_commands(images, store):
    run("probe", images, *MODEL, "--store", store, "--head", "linear,centroid", "--fractions", "50,100", "--seeds", "2")
    advice = {one["topic"]: one for one in run_json("advise", images, "--store", store)["advice"]}
    assert "skyprobe extract" in advice["backbone"]["command"]
    assert len(advice["labels"]["rows"]) == 2
    assert "not measured" in advice["whitening"]["sentence"]
    result = run("advise", images, "--store", store)
    assert result.exit_code == 0
    assert "* labels: " in result.stdout


def test_runs_are_ranked_with_their_ties(images, store, tmp_path):
    heads = ["--head", "linear,centroid,whitened", "--fractions", "30,50,70,100", "--seeds", "2"]
    run("probe", images, *MODEL, "--store", store, *heads)
    shown = run_json("compare", images, "--store", store, "--target", "0.9", "-o", tmp_path / "compared")
    ranking = shown["rows"]["ranking"]
    assert {row["head"] for row in ranking} >= {"linear", "centroid", "whitened"}  # other tests fitted more
    assert [row["tied"] for row in ranking].count("-") == 1
    assert {row["ablation"] for row in shown["rows"]["ablations"]} == {"whitening"}
    assert len(shown["remarks"]) == len(shown["rows"]["learning-curves"]) == 3
    assert {path.name for path in (tmp_path / "compared").iterdir()} == {
        f"{name}.{kind}" for name in ("ranking", "ablations", "learning-curves") for kind in ("csv", "tex")
    }

    result = run("compare", images, "--store", store, "--against", "linear", "--metric", "accuracy", "--fraction", "30")
    assert result.exit_code == 0, result.output
    assert "difference from linear" in result.stdout
    assert run("compare", images, "--store", store, "--metric", "f2").exit_code == 2
    assert run("compare", images, "--store", store, "--fraction", "31").exit_code == 2


def test_hints_are_commands_that_work(images, store, tmp_path):
    """Each is run, an extraction by the same backbone as a dry run; weights of others would have to be downloaded."""
    run("probe", images, *MODEL, "--store", store, "--fractions", "50,100", "--seeds", "2")
    (name,) = {row["dataset"] for row in run_json("ls", "--store", store)}
    told = [one["command"] for one in run_json("advise", name, "--store", store)["advice"]]
    commands = {part for command in told if command for part in command.split(" && ")}
    verbs = [shlex.split(command)[1] for command in commands]
    assert {"probe", "extract", "finetune"} <= set(verbs)
    for words in map(shlex.split, commands):
        variant = words[words.index("-p") + 1]
        if (words[1] == "probe" and variant != "resize=64") or BACKBONE not in words:
            continue  # its features come from the extraction before it
        short = {"extract": ["--dry-run"], "finetune": ["--epochs", "1", "-o", tmp_path]}.get(words[1], [])
        result = run(*words[1:], *short)
        assert result.exit_code in {0, 3}, (words, result.output)


def test_what_to_do_without_runs_or_features_is_a_command_that_works(images, tmp_path):
    path = tmp_path / "store.zarr"
    run("extract", images, *MODEL, "--weights", "random:0", "--engine", "torch", "--store", path)
    refused = run("compare", images, "--store", path)
    command = refused.stderr.rpartition("Fit some heads: ")[2]
    assert run(*shlex.split(command)[1:]).exit_code == 3
    assert run("compare", images, "--store", path).exit_code == 0


def test_labels_that_changed_are_those_of_the_next_command(images, tmp_path):
    data, store = tmp_path / "own", tmp_path / "store.zarr"
    shutil.copytree(images, data)
    names = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    right = [f"{name},{name.partition('/')[0]}" for name in names]
    (data / "cat.csv").write_text("\n".join(["file,label", *right]))
    run("extract", f"table:{data}", *MODEL, "--weights", "random:0", "--engine", "torch", "--store", store)
    words = ["probe", f"table:{data}", *MODEL, "--store", store, "--fractions", "100", "--seeds", "1"]
    before = run(*words, "-o", tmp_path / "before")
    assert "split drawn (20% of the labelled rows are test rows, stratified, seed 0)" in before.stderr
    shuffled = np.random.default_rng(0).permutation([line.partition(",")[2] for line in right])
    wrong = [f"{name},{label}" for name, label in zip(names, shuffled, strict=True)]
    (data / "cat.csv").write_text("\n".join(["file,label", *wrong]))
    after = run(*words, "-o", tmp_path / "after")
    assert "changed since it was last read: labels (label)" in after.stderr

    def score(folder):
        return pd.read_csv(tmp_path / folder / "summary.csv")["mean"].iloc[0]

    assert score("before") == 1.0
    assert score("after") < 0.7
    ranked = run("compare", f"table:{data}", "--store", store)
    assert "1 runs were tested on labels that have changed since, and left out." in ranked.stdout


def test_a_store_that_cannot_be_written_can_be_probed(images, store, tmp_path, monkeypatch):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    monkeypatch.setattr("featurestore.store.layout.backends.local.os.access", lambda path, mode: path != copy)
    words = ["probe", images, *MODEL, "--store", copy, "--head", "centroid", "--fractions", "70", "--seeds", "1"]
    before = sorted(copy.rglob("*"))
    result = run(*words)
    assert result.exit_code == 3
    assert f"{copy} cannot be written: results are not cached" in result.stderr
    assert sorted(copy.rglob("*")) == before
    assert run(*words, "--save").exit_code == 1
    refused = run("extract", images, *MODEL, "--weights", "random:0", "--store", copy)
    assert refused.exit_code == 1 and "the store cannot be written" in refused.stderr


def test_the_former_name_of_diagnose_works_and_is_told(images, store):
    words = [images, *MODEL, "--store", store, "--outliers", "3"]
    former, present = run("look", *words), run("diagnose", *words)
    assert former.stderr.startswith("skyprobe look is called skyprobe diagnose now; the former name still works.\n")
    assert "is called" not in present.stderr
    assert former.stdout.splitlines()[:8] == present.stdout.splitlines()[:8]
    assert "\n  look " not in run("--help").stdout


def test_diagnostics_without_training(images, store, tmp_path):
    result = run("diagnose", images, *MODEL, "--store", store, "-o", tmp_path / "diagnostics", "--outliers", "3")
    assert "Effective rank and intrinsic dimension" in result.stdout
    assert "cosine similarity" in result.stdout
    written = {path.name for path in (tmp_path / "diagnostics").iterdir()}
    assert {name.rpartition("-")[2] for name in written if name.endswith(".csv")} == {
        "measures.csv", "spectra.csv", "alignments.csv", "covariates.csv", "flagged.csv",
    }  # fmt: skip
    assert any("flagged" in name and name.endswith(".pdf") for name in written)
    assert run("diagnose", images, *MODEL, "--store", store, "--threshold", "3").exit_code == 2


@pytest.mark.filterwarnings("default")
def test_a_former_protocol_is_told_in_one_line(images, store):
    words = ["probe", images, *MODEL, "--store", store, "--head", "centroid", "--fractions", "100", "--seeds", "1"]
    result = run(*words, "--protocol", "convex")
    assert result.exit_code == 3, result.output  # one image is unreadable
    told = [line for line in result.stderr.splitlines() if "convex" in line]
    assert told == ["skyprobe: the protocol 'convex' is called 'cv' now; please use that name"]
    assert "protocol cv" in result.stdout


def test_the_old_name_of_workers_goes_on_working_with_a_notice(images, store):
    words = ("extract", images, *MODEL, "--weights", "random:0", "--engine", "torch", "--store", store, "--dry-run")
    result = run(*words, "--lanes", 1)
    assert (result.exit_code, "--lanes is now called --workers." in result.stderr) == (0, True)
    assert "--lanes" not in run("extract", "--help").output
