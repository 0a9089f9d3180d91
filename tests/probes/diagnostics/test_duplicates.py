"""Planted duplicates are found, and nothing else; pairs and threshold against brute force."""

import numpy as np
import pytest
from scipy.stats import weibull_min
from sklearn.neighbors import NearestNeighbors

from probes.diagnostics.duplicates import default_threshold, find_duplicates
from probes.diagnostics.leaks import find_leaks
from probes.diagnostics.sampling import draw_sample
from probes.sweep.splits import name_parts

SPLITS = ["train"] * 200 + ["test"] * 100


@pytest.fixture
def planted(features_of):
    """Row 250 equals row 10; rows 260 and 20 are close; rows 30 and 31, both of training, are equal."""
    values = np.random.default_rng(0).normal(size=(300, 24))
    values[250], values[31] = values[10], values[30]
    values[260] = values[20] + 1e-3
    return features_of(values, splits=SPLITS)


def look(features, **options):
    return find_duplicates(features, draw_sample(features, 8192, 0), features.table.splits, **options)


def test_equal_and_close_rows_are_found(planted):
    found = look(planted)
    assert {row: int(first) for row, first in enumerate(found.kind) if first != row} == {250: 10, 31: 30}
    assert found.pairs[["first", "second"]].to_numpy().tolist() == [[20, 260]]
    assert found.n_pairs == 1
    assert found.pairs["similarity"].item() > found.threshold


def test_test_rows_with_a_partner_in_training_are_leaks(planted):
    leaks = find_leaks(look(planted), name_parts(planted.table, "kind"))
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


def brute_force(values, mean, threshold):
    """All close pairs of distinct rows, from all pairs at once."""
    unit = values - mean
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    cosine = np.triu(unit @ unit.T, 1)
    return {(int(i), int(j)): float(cosine[i, j]) for i, j in zip(*np.nonzero(cosine >= threshold), strict=True)}


@pytest.mark.parametrize("block", [7, 64, 2048])
def test_pairs_are_those_of_all_rows_at_once_whatever_the_blocks(features_of, monkeypatch, block):
    """Features far from the origin, and a sample of half of them: its mean is subtracted."""
    monkeypatch.setattr("probes.diagnostics.duplicates.BLOCK_ROWS", block)
    values = np.random.default_rng(1).normal(size=(90, 3)).astype(np.float32) + np.float32(20)
    features = features_of(values)
    sample = draw_sample(features, 45, 0)
    found = find_duplicates(features, sample, features.table.splits, 0.97)
    expected = brute_force(values.astype(np.float64), sample.mean.astype(np.float64), 0.97)
    pairs = {(row.first, row.second): row.similarity for row in found.pairs.itertuples()}
    assert pairs.keys() == expected.keys()
    assert found.n_pairs == len(expected) > 50
    assert pairs == pytest.approx(expected, abs=1e-5)
    assert found.pairs["similarity"].is_monotonic_decreasing
    assert (found.kind == np.arange(90)).all(), "a row is not a duplicate of itself"


def test_only_so_many_pairs_are_listed_but_all_are_counted(features_of, monkeypatch):
    features = features_of(np.random.default_rng(2).normal(size=(60, 2)))
    every = look(features, threshold=0.5)
    monkeypatch.setattr("probes.diagnostics.duplicates.MOST_PAIRS", 5)
    few = look(features, threshold=0.5)
    assert few.n_pairs == every.n_pairs > 5
    assert few.pairs.to_dict("list") == every.pairs[:5].to_dict("list")


def test_the_threshold_is_the_weibull_law_of_the_nearest_distances(features_of):
    sample = draw_sample(features_of(np.random.default_rng(3).normal(size=(400, 8))), 8192, 0)
    unit = sample.values / np.linalg.norm(sample.values, axis=1, keepdims=True)
    distances = NearestNeighbors(n_neighbors=2).fit(unit).kneighbors(unit)[0][:, 1]
    middle, upper = np.quantile(distances, [0.5, 0.75])
    shape = np.log(2) / np.log(upper / middle)
    law = weibull_min(shape, scale=middle / np.log(2) ** (1 / shape))
    assert law.cdf([middle, upper]) == pytest.approx([0.5, 0.75])
    threshold = default_threshold(sample, "float32")
    # P(r < x) is n log 2 (x / m)^k / n for small x
    assert 400 * law.cdf(np.sqrt(2 * (1 - threshold))) == pytest.approx(0.05, rel=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_threshold_allows_for_the_rounding_of_the_storage_type(features_of, dtype):
    line = draw_sample(features_of(np.repeat(np.eye(4), 5, axis=0)), 8192, 0)
    assert 1 - default_threshold(line, dtype) == pytest.approx(np.finfo(dtype).eps ** 2 / 2, rel=0.01, abs=1e-16)


def test_rows_at_the_mean_have_no_angle(features_of):
    values = np.concatenate([np.eye(3), -np.eye(3), np.zeros((1, 3))])
    found = look(features_of(values), threshold=-1)
    assert 6 not in found.pairs[["first", "second"]].to_numpy()
    assert found.n_pairs == 15
