"""Planted duplicates and leaks are found, and nothing else."""

import numpy as np
import pytest

from probes.diagnostics.duplicates import find_duplicates, find_leaks
from probes.diagnostics.flagged import part_rows
from probes.diagnostics.sampling import draw_sample

SPLITS = ["train"] * 200 + ["test"] * 100


@pytest.fixture
def planted(features_of):
    """Row 250 equals row 10; rows 260 and 20 are close; rows 30 and 31, both of training, are equal."""
    values = np.random.default_rng(0).normal(size=(300, 24))
    values[250], values[31] = values[10], values[30]
    values[260] = values[20] + 1e-3
    return features_of(values, splits=SPLITS)


def look(features, **options):
    return find_duplicates(features, draw_sample(features, 8192, 0), **options)


def test_equal_and_close_rows_are_found(planted):
    found = look(planted)
    assert {row: int(first) for row, first in enumerate(found.kind) if first != row} == {250: 10, 31: 30}
    assert found.pairs[["first", "second"]].to_numpy().tolist() == [[20, 260]]
    assert found.n_pairs == 1
    assert found.pairs["similarity"].item() > found.threshold


def test_test_rows_with_a_partner_in_training_are_leaks(planted):
    leaks = find_leaks(look(planted), part_rows(planted.table, "kind"))
    assert sorted(zip(leaks["test"], leaks["train"], strict=True)) == [(250, 10), (260, 20)]


def test_similarity_is_the_cosine_of_centred_rows(planted):
    found = look(planted, threshold=0.5)
    centred = planted.values - planted.values.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = unit @ unit.T
    first, second, similarity = found.pairs.to_numpy().T
    np.testing.assert_allclose(cosine[first.astype(int), second.astype(int)], similarity, atol=1e-5)
    kinds = np.unique(found.kind)
    close = np.triu(cosine[np.ix_(kinds, kinds)] >= 0.5, 1).sum()
    assert found.n_pairs == close


def test_scattered_rows_have_no_duplicates(features_of):
    found = look(features_of(np.random.default_rng(5).normal(size=(500, 16))))
    assert found.n_pairs <= 1
