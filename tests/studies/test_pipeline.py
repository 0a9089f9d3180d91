"""A study as a whole on made-up features: the order of its stages, and what a report takes from the store."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from featurestore.errors import UnknownNameError
from featurestore.extraction.embedding import Costs
from featurestore.extraction.extract import ExtractionReport
from studies import pipeline, stages
from studies.study_file.spec import FigureOptions


def test_the_stages_run_in_order(study, store, reporter, tmp_path, monkeypatch, projected, fake_dataset):
    order = []
    for name in ("load_features", "probe", "project", "write_results"):
        original = getattr(pipeline, name)

        def spy(*given, name=name, original=original):
            order.append(name)
            return original(*given)

        monkeypatch.setattr(pipeline, name, spy)

    def extract(dataset, *given):
        order.append("extract_features")
        return ExtractionReport(dataset.table.name, store.path, (), Costs(), 1.0)

    table = replace(store.dataset("toy"), notice="for scholars")
    monkeypatch.setattr(stages, "extract_features", extract)
    monkeypatch.setattr(stages, "open_dataset", lambda text: fake_dataset(table))
    study = replace(study, figures=FigureOptions(projection=True))
    result = pipeline.run_study(study, store, tmp_path / "out", reporter, "skyprobe run")
    assert order == ["extract_features", "load_features", "probe", "project", "write_results"]
    assert list(result.seconds) == ["extract", "probe", "train", "project", "report"]
    notice, split, no_images = reporter.notices
    assert notice == "for scholars"
    assert split == "toy (kind): split given by the dataset: 59 train, 0 valid, 30 test"
    assert no_images.startswith("No images of toy are shown: ")
    assert result.files["report"].is_file()
    assert [one.dataset for one in result.extractions] == ["toy"]


def test_a_report_needs_neither_images_nor_projection(study, store, reporter, tmp_path, projected):
    result = pipeline.report_study(study, store, tmp_path / "out", reporter, "skyprobe report")
    assert projected == []
    assert result.extractions == ()
    assert "cut off" in result.files["report"].read_text(encoding="utf-8")


def test_each_of_several_label_schemes_is_probed_where_a_dataset_has_it(study, store, reporter, mapping, tmp_path):
    several = replace(study, probe=replace(study.probe, labels=("kind", mapping('c_0 = "one"\nc_1 = "two"'))))
    result = pipeline.report_study(several, store, tmp_path / "out", reporter, "again")
    assert set(pd.read_csv(result.files["results.csv"])["scheme"]) == {"kind", "bright"}
    assert (tmp_path / "out" / "figures" / "figure-5-schemes.pdf").is_file()
    alien = replace(study, probe=replace(study.probe, labels=("kind", "knid")))
    with pytest.raises(UnknownNameError, match=r"unknown label scheme 'knid'.*Did you mean kind"):
        stages.probe_study(alien, store, None, reporter)


def test_reports_and_projections_take_a_mapping_file(
    study, store, reporter, mapping, projected, tmp_path, monkeypatch, relabelled
):
    asked = []
    carry_out = pipeline.carry_out
    monkeypatch.setattr(pipeline, "carry_out", lambda *given: asked.append(given[2:4]) or carry_out(*given))
    study = relabelled(study, mapping('c_0 = "one"\nc_1 = "two"'))
    study = replace(study, figures=FigureOptions(projection=True))
    result = pipeline.report_study(study, store, tmp_path / "report", reporter, "again")
    page = result.files["report"].read_text()
    assert "toy (bright)" in page
    assert "unlabelled are the samples of kind c_2 (29)" in page
    assert asked == [({"toy": ("bright",)}, tmp_path / "report")]
    assert stages.project_study(study, store, tmp_path / "umap", reporter).files


def test_tables_and_reports_carry_the_split(study, store, reporter, tmp_path):
    result = pipeline.report_study(study, store, tmp_path, reporter, "again")
    assert "Split given by the dataset: 59 train, 0 valid, 30 test." in result.tables[0]
    assert "Split given by the dataset: 59 train, 0 valid, 30 test." in result.files["report"].read_text()
    for name in ("results.csv", "summary.csv", "results.parquet", "predictions.parquet"):
        read = pd.read_csv if name.endswith(".csv") else pd.read_parquet
        assert set(read(result.files[name])["split"]) == {"split given by the dataset: 59 train, 0 valid, 30 test"}
    assert "Split given by the dataset" in result.files["summary.tex"].read_text()
