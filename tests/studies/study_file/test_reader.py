"""Study files: every option comes through, and every mistake is told with its place."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from featurestore.backbones.catalogue import find_spec
from featurestore.errors import ProbeError, UnknownNameError, UsageError
from featurestore.extraction.requests import ExtractionOptions
from featurestore.preprocessing import parse_variant
from studies.study_file.reader import parse_study, read_study, shipped_studies
from studies.study_file.spec import FigureOptions, ProbeOptions, Study
from studies.trainings import plan_trainings

FULL = Study(
    datasets=("first", "rgz:/data"),
    backbones=("resnet-18",),
    variants=("full-224", "resize=64"),
    title="Lobes",
    extract=ExtractionOptions(
        weights="random:3",
        poolings=("avgpool",),
        engine="torch",
        device="cpu",
        precision="fp32",
        dtype="float32",
        batch_size=2,
        workers=5,
        trust_remote_code=True,
        retry_unreadable=True,
        checksum=True,
    ),
    probe=ProbeOptions(
        heads=("knn", "mlp"),
        protocol="paper",
        fractions=(5, 50),
        seeds=7,
        pooling="avgpool",
        labels=("bent", "size"),
        epochs=9,
        validation="rest",
        allow_seen_rows=True,
        options={"knn": {"metric": "euclidean"}},
    ),
    figures=FigureOptions(projection=False, samples=False, attention=True, diagnostics=True),
    finetune=({"mode": "lora", "epochs": 3},),
    detect=({"view": "source", "fractions": [50, 100]},),
)
MINIMAL = 'datasets = ["first"]\nbackbones = ["resnet-18"]\n'
TABLES = {"extract": FULL.extract, "probe": FULL.probe, "figures": FULL.figures}


def toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {toml(item)}' for name, item in value.items())}}}"
    return repr(value) if isinstance(value, int) else f'"{value}"'


def to_toml(study):
    lines = [
        f"{one.name} = {toml(getattr(study, one.name))}" for one in fields(study) if one.name not in {*TABLES, "file"}
    ]
    for name in TABLES:
        options = getattr(study, name)
        lines += [f"[{name}]", *(f"{one.name} = {toml(getattr(options, one.name))}" for one in fields(options))]
    return "\n".join(lines)


def test_every_option_comes_through_a_file(tmp_path):
    for options, defaults in zip(TABLES.values(), (ExtractionOptions(), ProbeOptions(), FigureOptions()), strict=True):
        kept = [one.name for one in fields(options) if getattr(options, one.name) == getattr(defaults, one.name)]
        assert kept == [], "the study of this test sets everything"
    path = tmp_path / "study.toml"
    path.write_text(to_toml(FULL), encoding="utf-8")
    assert read_study(path, print) == FULL


def test_what_is_not_given_keeps_its_default():
    assert parse_study(MINIMAL, where="x") == Study(("first",), ("resnet-18",))


@pytest.mark.parametrize(("table", "name"), [(table, one.name) for table in TABLES for one in fields(TABLES[table])])
def test_a_value_of_a_wrong_type_is_refused_for_every_option(table, name):
    with pytest.raises(UsageError, match=rf"{name} should be .* \[study.toml, line 4: \[{table}\]: {name}=1.5\]"):
        parse_study(f"{MINIMAL}[{table}]\n{name} = 1.5\n", where="study.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[probe]\nseeds = true", r"seeds should be a valid integer \[study.toml, line 4: \[probe\]: seeds=True\]"),
        ("[probe]\nseeds = 2.0", "seeds should be a valid integer"),
        ("[probe]\nfractions = [\n  10,\n  true,\n]", r"fractions.1 should be a valid integer \[study.toml, line 4: "),
        ("[probe]\nheads = [1]", "heads.0 should be a valid string"),
        ('[probe]\nheads = "linear"', "heads should be a list"),
        ("[probe]\n\n# how many\nseeds = 0", r"seeds should be greater than or equal to 1 \[study.toml, line 6: "),
        ("[probe]\nheads = []", r"no heads are named \[study.toml, line 4: \[probe\]: heads\]"),
        ('[figures]\nprojection = "false"', r"projection should be a valid boolean \[study.toml, line 4: "),
        ("[extract]\nlanes = 0", "workers should be greater than or equal to 1"),
        ("probe = 3", r"a table is expected \[study.toml, line 3\]"),
        ("title = 1979-05-27", r"title should be a valid string \[study.toml, line 3: "),
        ("title = [", "is not TOML"),
        (f"title = {'[' * 5000}", "nested too deeply"),
    ],
)
def test_bad_values_are_refused(text, message):
    with pytest.raises(UsageError, match=message):
        parse_study(f"{MINIMAL}{text}\n", where="study.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[probe]\nfractons = [10]",
            r"unknown key 'fractons' \[study.toml, line 4: \[probe\]: .* mean fractions",
        ),
        ("[probes]\nseeds = 1", r"unknown key 'probes' \[study.toml, line 3: probes\]. Did you mean probe"),
        ('[probe]\nheads = ["lineal"]', r"study.toml, line 4: \[probe\]: head\]. Did you mean linear"),
        ('[probe]\nprotocol = "papre"', r"study.toml, line 4: \[probe\]: protocol\]. Did you mean paper"),
        ('file = "x"', r"unknown key 'file' \[study.toml, line 3: file\]"),
    ],
)
def test_unknown_names_are_met_with_near_ones(text, message):
    with pytest.raises(UnknownNameError, match=message):
        parse_study(f"{MINIMAL}{text}\n", where="study.toml")


def test_a_fraction_outside_its_range_is_told_before_any_work():
    with pytest.raises(ProbeError, match="above 0 and up to 100"):
        parse_study(f"{MINIMAL}[probe]\nfractions = [10, 101]\n", where="study.toml")


def test_missing_and_empty_lists_are_named():
    with pytest.raises(UsageError, match="lacks backbones and datasets"):
        parse_study("title = 'x'", where="study.toml")
    with pytest.raises(UsageError, match="lacks backbones "):
        parse_study("datasets = ['first']", where="study.toml")
    for name in ("datasets", "backbones", "variants"):
        with pytest.raises(UsageError, match=f"the study names no {name}"):
            replace(FULL, **{name: ()})


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read the study: No such file .*nowhere\.toml"):
        read_study(tmp_path / "nowhere.toml", print)
    (tmp_path / "latin.toml").write_bytes(b'title = "caf\xe9"')
    with pytest.raises(UsageError, match="not UTF-8 text"):
        read_study(tmp_path / "latin.toml", print)


def test_the_demo_study_is_the_main_job():
    study = read_study(Path("demo"), print)
    assert (study.datasets, study.backbones) == (("first",), ("efficientnet-lite0",))
    assert study.variants == ("full-224", "center-224")
    assert study.probe == ProbeOptions(heads=("linear", "whitened", "mlp", "knn"))
    assert study.figures.projection


def test_parameters_of_heads_come_from_the_table_of_options_and_epochs_from_their_own_key():
    text = f"{MINIMAL}[probe]\nheads = ['linear', 'knn']\nepochs = 200\noptions.linear.class_weight = 'none'\n"
    options = parse_study(text, where="x").probe.head_options
    assert options == {"linear": {"epochs": 200, "class_weight": "none"}}


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_shipped_studies_name_what_exists(name):
    """Heads, protocols, schemes and trainings are checked as they are read; backbones and variants here."""
    study = read_study(Path(name), print)
    assert plan_trainings(study).finetune or not study.finetune
    for backbone in study.backbones:
        find_spec(backbone)
    for variant in study.variants:
        parse_variant(variant)


def test_a_file_of_the_name_of_a_shipped_study_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").write_text(MINIMAL)
    assert read_study(Path("small"), print).datasets == ("first",)
    assert read_study(Path("small"), print).backbones == ("resnet-18",)


def test_former_names_of_keys_are_read_with_a_notice():
    told = []
    text = f"{MINIMAL}[extract]\nlanes = 3\n[figures]\nlook = true\n"
    study = parse_study(text, where="study.toml", notice=told.append)
    assert study.extract.workers == 3
    assert study.figures.diagnostics
    assert told == [
        "study.toml, line 4: lanes is called workers now; the old name is still read.",
        "study.toml, line 6: look is called diagnostics now; the old name is still read.",
    ]
