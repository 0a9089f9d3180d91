"""Heads on a strict stand-in for CuPy: no array of the host is mixed with one of the device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from probes.heads.linear import LinearProbe, WhitenedProbe
from probes.solvers.backend import array_library, has_gpu

N, WIDTH, CLASSES = 240, 12, 3


@pytest.fixture(scope="module")
def data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    rng = np.random.default_rng(0)
    y = rng.integers(0, CLASSES, N)
    return (rng.normal(size=(N, WIDTH)) + np.eye(CLASSES, WIDTH)[y] * 2).astype(np.float32), y


@pytest.mark.parametrize("probe", [LinearProbe, WhitenedProbe])
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("with_valid", [False, True])
def test_heads_are_those_of_numpy(probe: Any, n_classes: int, with_valid: bool, data: Any, request: Any) -> None:
    X, y = data[0], data[1] % n_classes
    options = {"X_valid": X[200:], "y_valid": y[200:]} if with_valid else {}

    def fit() -> Any:
        return probe(random_state=0).fit(X[:200], y[:200], **options)

    expected = fit()
    request.getfixturevalue("strict_cupy")
    assert array_library().__name__ == "cupy"
    found = fit()
    assert found.chosen_ | {"solver": ""} == expected.chosen_ | {"solver": ""}
    assert (found.chosen_["solver"], expected.chosen_["solver"]) == ("cupy", "numpy")
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-4, atol=1e-5)
    assert isinstance(found.coef_, np.ndarray)


@pytest.mark.usefixtures("strict_cupy")
def test_the_stand_in_refuses_what_cupy_refuses() -> None:
    xp = array_library()
    assert has_gpu()
    ours, host = xp.asarray(np.ones(3, np.float32)), np.ones(3, np.float32)
    assert float((ours + ours).sum()) == 6
    for mix in (lambda: ours + host, lambda: xp.exp(host), lambda: np.asarray(ours), lambda: ours[host > 0]):
        with pytest.raises(TypeError, match="implicit"):
            mix()
