"""The sample: the same images for every backbone, centred."""

from __future__ import annotations

import numpy as np
import pytest

from featurestore.errors import ProbeError
from probes.diagnostics.sampling import draw_rows, draw_sample, read_blocks

VALUES = np.random.default_rng(0).normal(3, 1, size=(50, 4)).astype(np.float32)


def test_a_sample_is_centred_by_its_own_mean(features_of):
    features = features_of(VALUES)
    sample = draw_sample(features, 20, 0)
    assert len(set(sample.rows.tolist())) == 20
    assert sample.sample_ids == tuple(features.table.sample_ids[row] for row in sample.rows)
    assert sample.mean == pytest.approx(VALUES[sample.rows].mean(axis=0), rel=1e-6)
    np.testing.assert_array_equal(sample.values, VALUES[sample.rows] - sample.mean)


def test_a_smaller_sample_is_the_start_of_a_larger_one_and_follows_ids(features_of, make_table):
    table = features_of(VALUES).table
    every = draw_rows(table, 50, 0)
    assert sorted(every) == list(range(50))
    assert draw_rows(table, 20, 0).tolist() == every[:20].tolist()
    assert draw_rows(table, 50, 1).tolist() != every.tolist()
    turned = make_table(np.zeros(50, int), ids=table.sample_ids[::-1])
    assert [turned.sample_ids[row] for row in draw_rows(turned, 20, 0)] == [table.sample_ids[row] for row in every[:20]]


def test_a_constant_column_is_zero_to_the_last_bit(features_of):
    values = np.column_stack([VALUES, np.full(50, 0.1, np.float32)])
    assert not draw_sample(features_of(values), 50, 0).values[:, -1].any()


def test_blocks_are_all_rows_in_order(features_of):
    spans, parts = zip(*read_blocks(features_of(VALUES), 16), strict=True)
    assert [(span.start, span.stop) for span in spans] == [(0, 16), (16, 32), (32, 48), (48, 50)]
    np.testing.assert_array_equal(np.concatenate(parts), VALUES)


def test_values_that_are_not_finite_are_refused(features_of):
    values = VALUES.copy()
    values[7, 2] = np.nan
    for read in (lambda features: draw_sample(features, 50, 0), lambda features: list(read_blocks(features))):
        with pytest.raises(ProbeError, match="finite"):
            read(features_of(values))
