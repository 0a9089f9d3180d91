"""What is measured from images, and the user's own columns."""

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import UsageError
from probes.diagnostics.covariates import join_columns, measure_image, read_columns


def source(flux, sigma, noise=1.0, background=10.0):
    rows, columns = np.mgrid[:101, :101] - 50.0
    light = flux / (2 * np.pi * sigma**2) * np.exp(-(rows**2 + columns**2) / (2 * sigma**2))
    return light + background + noise * np.random.default_rng(0).normal(size=light.shape)


def test_a_gaussian_source_is_measured():
    found = measure_image(source(flux=1e5, sigma=4))
    assert found["flux"] == pytest.approx(1e5, rel=0.02)
    assert found["background"] == pytest.approx(10, abs=0.1)
    assert found["noise"] == pytest.approx(1, rel=0.05)
    assert found["peak"] == pytest.approx(1e5 / (2 * np.pi * 16), rel=0.02)
    assert found["size"] == pytest.approx(np.sqrt(2) * 4, rel=0.05)
    assert (found["height"], found["width"]) == (101, 101)


def test_images_without_a_finite_pixel_or_an_object():
    assert np.isnan(measure_image(np.full((4, 4), np.nan))["flux"])
    assert np.isnan(measure_image(np.ones((4, 4)))["size"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no sample_id or no other column"),
        ("sample_id,z\nx,1\nx,2\n", "a sample id occurs more than once"),
        ("sample_id,z\nx,far\n", "no numbers in z"),
    ],
)
def test_bad_columns_are_refused(tmp_path, text, message):
    (tmp_path / "columns.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_columns(tmp_path / "columns.csv")


def test_own_columns_join_the_measured_ones(make_table):
    table = make_table(np.arange(4) % 2)
    measured = pd.DataFrame({"sample_id": ["s000", "s001"], "flux": [1.0, 2.0]})
    own = pd.DataFrame({"sample_id": ["s001", "s003"], "redshift": [0.1, 0.2]})
    joined = join_columns(measured, own, table).set_index("sample_id")
    assert joined.loc["s001"].tolist() == [2.0, 0.1]
    assert np.isnan(joined.loc["s003", "flux"])
    with pytest.raises(UsageError, match="no sample id of the columns is one of the dataset"):
        join_columns(measured, own.assign(sample_id=["a", "b"]), table)
    with pytest.raises(UsageError, match="the image itself gives flux"):
        join_columns(measured, own.rename(columns={"redshift": "flux"}), table)
