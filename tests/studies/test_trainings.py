"""Trainings of study files: planned before any work, carried out once, shown with the probes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from featurestore.errors import UnknownNameError, UsageError
from featurestore.store import open_store
from finetune import study as stages
from studies.pipeline import run_study
from studies.study_file.reader import parse_study
from studies.trainings import Trainings, carry_out, plan_trainings

BACKBONE = "timm:test_efficientnet"


@pytest.fixture
def data(tmp_path):
    """Twelve images of each of two brightnesses."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 40), ("light", 200)):
        folder = tmp_path / "sky" / name
        folder.mkdir(parents=True)
        for row in range(12):
            pixels = np.clip(rng.normal(level, 10, size=(32, 32, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{row}.png")
    return str(tmp_path / "sky")


def study_of(data, text=""):
    return parse_study(
        f"""
        datasets = ["{data}"]
        backbones = ["{BACKBONE}"]
        variants = ["resize=32"]
        [extract]
        weights = "random:0"
        [probe]
        heads = ["centroid"]
        fractions = [50, 100]
        seeds = 2
        [figures]
        projection = false
        {text}
        """,
        where="study.toml",
    )


def test_tables_take_what_they_do_not_say_from_the_study():
    study = study_of("sky", '[[finetune]]\nmode = "lora"\nseeds = 1\nepochs = 3\n[[detect]]\ndatasets = ["a", "b"]')
    planned = plan_trainings(study)
    (tuned,) = planned.finetune
    assert (tuned.data, tuned.backbones, tuned.variants) == ("sky", (BACKBONE,), ("resize=32",))
    assert (tuned.fractions, tuned.seeds, tuned.weights) == ((50, 100), 1, "random:0")
    assert (tuned.options.mode, tuned.options.epochs) == ("lora", 3)
    assert [(one.data, one.seeds, one.resume) for one in planned.detect] == [("a", 2, True), ("b", 2, True)]
    assert plan_trainings(study_of("sky")) == Trainings()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ('[[finetune]]\nmode = "lroa"', UnknownNameError, "lroa"),
        ("[[finetune]]\nepochz = 3", UnknownNameError, "epochz"),
        (
            '[[finetune]]\nseeds = "two"',
            UsageError,
            r"seeds should be .*integer \[study.toml, line 14: \[\[finetune\]\], table 1: seeds=",
        ),
        ('[[finetune]]\nlearning_rate = "x"', UsageError, r"learning_rate should.*\[\[finetune\]\], table 1"),
        ('[[detect]]\nmode = "frozn"', UnknownNameError, "Did you mean frozen"),
        (
            '[[finetune]]\nmode = "lora"\n[[finetune]]\n\nbalanced = "false"',
            UsageError,
            r"balanced should be a valid boolean.*line 17: .*, table 2: balanced='false'",
        ),
        ("[[finetune]]\nepochs = 20.5", UsageError, r"epochs should be a valid integer.*line 14: .*epochs=20.5"),
        (
            "[[detect]]\nepochz = 3",
            UnknownNameError,
            r"'epochz' \[study.toml, line 14: .*Did you mean epochs",
        ),
        ("[[detect]]\ndatasets = 3", UsageError, r"3 is not a list of datasets \[study.toml, line 14\]"),
        ("[detect]\nseeds = 3", UsageError, r"detect should be a list \[study.toml, line 13"),
    ],
)
def test_mistakes_are_told_before_any_work(text, error, message):
    with pytest.raises(error, match=message):
        plan_trainings(study_of("sky", text))


def test_a_study_trains_once_and_shows_all_in_one_table(tmp_path, data, reporter, monkeypatch):
    store = open_store(str(tmp_path / "store.zarr"), mode="a")
    study = study_of(data, '[[finetune]]\nmode = "head"\nfractions = [100]\nseeds = 1\nepochs = 1')
    result = run_study(study, store, tmp_path / "out", reporter, "again")
    assert "finetune:head" in result.tables[0]
    assert "centroid" in result.tables[0]
    assert (tmp_path / "out" / "finetune" / "01-head" / "results.csv").is_file()
    assert (tmp_path / "out" / "tables" / "ranking.tex").is_file()
    names = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    assert {"figure-1-samples.pdf", "figure-3-f1.pdf", "figure-b-precision-recall.png"} <= names

    monkeypatch.setattr(stages, "run_fit", lambda *_, **__: pytest.fail("trained again"))
    again = run_study(study, store, tmp_path / "out", reporter, "again")
    assert again.tables == result.tables


def test_labels_that_trainings_do_not_learn_are_told(tmp_path):
    mapping = tmp_path / "GROUPS.CSV"
    mapping.write_text("class,scheme.big\nlight,yes\n")
    own = study_of("sky", '[[finetune]]\nmode = "head"')
    mapped = replace(own, probe=replace(own.probe, labels=(str(mapping),)))
    planned = plan_trainings(mapped)
    assert planned.finetune[0].labels is None
    (told,) = planned.remarks
    assert told.startswith(f"Trainings learn the default label scheme of each dataset, not {mapping}")
    several = plan_trainings(replace(own, probe=replace(own.probe, labels=("kind", "size"))))
    assert several.remarks[0].startswith("Trainings learn kind, not size")
    assert several.finetune[0].labels == "kind"
    assert plan_trainings(own).remarks == ()


def test_remarks_reach_the_user(tmp_path, reporter):
    carry_out(
        Trainings(remarks=("no mapping file",)), open_store(str(tmp_path / "s.zarr"), mode="a"), {}, tmp_path, reporter
    )
    assert reporter.notices == ["no mapping file"]
