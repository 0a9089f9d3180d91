"""The stage of a study that diagnoses: what it writes and tells, and images that are not at hand."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from featurestore.datasets.base import Sample
from featurestore.errors import UnreadableImageError
from featurestore.preprocessing import parse_variant
from probes.diagnostics.findings import FRAMES
from studies.diagnosis import diagnose_study, show
from studies.report import diagnostics

SPLIT = "split given by the dataset: 40 train, 0 valid, 20 test"


@pytest.fixture
def features(make_features, tmp_path):
    made = make_features([0, 1] * 30, splits=["train"] * 40 + ["test"] * 20)
    return replace(made, table=replace(made.table, source=str(tmp_path / "gone")))


def test_every_table_carries_the_split_and_it_is_told(features, dict_store, reporter, tmp_path):
    other = replace(features, backbone="net_c", values=features.values[:, ::-1].copy())
    found = diagnose_study([features, other], dict_store, reporter, tmp_path)
    assert f"toy (kind): {SPLIT}" in reporter.notices
    assert all(SPLIT[1:] in text for text in found.tables)
    written = {name: pd.read_csv(tmp_path / f"toy-{name}.csv") for name in FRAMES if name != "covariates"}
    assert all((frame["split"] == SPLIT).all() and len(frame) for frame in written.values())


def test_without_images_the_user_is_told_and_own_columns_are_explained(features, dict_store, reporter, tmp_path):
    columns = tmp_path / "own.csv"
    order = np.argsort(features.values[:, 1])
    ids = np.array(features.table.sample_ids)[order]
    pd.DataFrame({"sample_id": ids, "rank": np.arange(60)}).to_csv(columns, index=False)
    found = diagnose_study([features], dict_store, reporter, tmp_path / "out", columns=columns)
    assert any(text.startswith("Brightness, noise and size of toy are not measured") for text in reporter.notices)
    explained = pd.read_csv(found.files["toy-covariates.csv"]).set_index("quantity")
    assert explained.loc["rank", "quantity_from_features"] > 0.5


class Images:
    """Noise of five bands; row 1 is truncated."""

    decoder = "array"

    def __init__(self, table):
        self.table = table

    def read(self, row):
        if row == 1:
            raise UnreadableImageError("truncated", where="s001", hint="Copy it again.")
        rng = np.random.default_rng(row)
        return Sample(rng.integers(0, 255, (16, 16, 5), dtype=np.uint8), bytes(16))


@pytest.fixture
def read(make_table, monkeypatch):
    """What `show` gives to contact sheets."""
    given = []
    monkeypatch.setattr(diagnostics, "captioned_figures", lambda _, pictures: given.append(pictures) or [])
    images = Images(make_table(np.zeros(3, int)))
    show(SimpleNamespace(dataset="toy"), {"toy": images})
    return given[0], images


@pytest.mark.parametrize("spec", ["resize=8,channels=2", "resize=8,channels=3-0", "resize=8,channels=0-1-2-3-4"])
def test_any_number_of_bands_is_shown_in_colours(read, spec):
    pictures, images = read
    pixels = parse_variant(spec)[1].apply(images.read(0).image, np.empty((0, 4), np.float32))
    picture = pictures(spec, "s000")
    assert picture.shape == (8, 8, 3)
    np.testing.assert_array_equal(picture[..., 0], np.round(pixels[0] * 255))


@pytest.mark.parametrize(
    ("variant", "sample"), [("resize=8,channels=2", "s001"), ("resize=8", "s000"), ("resize=8", "gone")]
)
def test_an_image_that_cannot_be_shown_any_more_is_a_grey_square(read, variant, sample):
    picture = read[0](variant, sample)
    assert picture.shape == (8, 8, 3)
    assert (picture == 128).all()
