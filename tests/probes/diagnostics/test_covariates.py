"""The user's own columns, beside those measured from images."""

import numpy as np
import pandas as pd
import pytest

from featurestore.errors import UsageError
from probes.diagnostics.covariates import join_columns, read_columns


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
