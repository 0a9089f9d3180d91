import numpy as np

from benchmarks.fidelity import compare_features

REFERENCE = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)


def test_equal_features_keep_everything():
    said = compare_features(REFERENCE, REFERENCE)
    assert said.startswith("cosine at least 1.000000, mean 1.000000; largest relative error 0.0e+00; 100.0%")


def test_a_longer_vector_is_an_error_that_the_cosine_does_not_show():
    said = compare_features(REFERENCE * np.float32(1.5), REFERENCE)
    assert said.startswith("cosine at least 1.000000, mean 1.000000; largest relative error 5.0e-01; 100.0%")


def test_one_row_turned_round_shows_in_the_least_cosine_and_in_the_neighbours():
    turned = REFERENCE.copy()
    turned[3] *= -1
    said = compare_features(turned, REFERENCE)
    assert said.startswith("cosine at least -1.000000, mean 0.950000; largest relative error 2.0e+00; ")
    assert "100.0%" not in said
