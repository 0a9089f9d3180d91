from __future__ import annotations

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from featurestore.datasets.public.plain_pickle import load_plain
from featurestore.errors import DatasetError

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


class Caller:
    """An object whose pickle calls something."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.parts = call, arguments

    def __reduce__(self) -> Any:
        return self.parts


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PLAIN, arrays(np.uint8, array_shapes(max_side=4)), st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_data_come_back(tmp_path: Path, plain: Any, array: np.ndarray, protocol: int) -> None:
    content = {"plain": plain, "array": array, "rows": list(array), "name": np.str_("a.png"), "label": np.int64(3)}
    (tmp_path / "batch").write_bytes(pickle.dumps(content, protocol))
    np.testing.assert_equal(load_plain(tmp_path / "batch"), content)


def test_no_bytes_at_all_come_back(tmp_path: Path) -> None:
    """Early protocols write them as a call of bytes."""
    (tmp_path / "batch").write_bytes(pickle.dumps(b"", 0))
    assert load_plain(tmp_path / "batch") == b""


def test_a_batch_of_python_2(tmp_path: Path) -> None:
    """As Python 2 and numpy 1 wrote it: bytes of the array as text, protocol 0."""
    python_2 = (
        b"(dp0\nS'labels'\np1\n(lp2\nI1\nasS'data'\np3\ncnumpy.core.multiarray\n_reconstruct\np4\n(cnumpy\nndarray\np5\n"
        b"(I0\ntp6\nS'b'\np7\ntp8\nRp9\n(I1\n(I2\ntp10\ncnumpy\ndtype\np11\n(S'u1'\np12\nI0\nI1\ntp13\nRp14\n(I3\nS'|'\n"
        b"p15\nNNNI-1\nI-1\nI0\ntp16\nbI00\nS'\\xff\\x07'\np17\ntp18\nbs."
    )
    (tmp_path / "batch").write_bytes(python_2)
    np.testing.assert_equal(load_plain(tmp_path / "batch"), {"labels": [1], "data": np.array([255, 7], np.uint8)})


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Caller(os.system, "touch ran"), r"(posix|nt)\.system"),
        (Caller(eval, "1"), r"builtins\.eval"),
        (Caller(getattr, "a", "upper"), r"builtins\.getattr"),
        (Caller(np.load, "a.npy"), r"numpy\.load"),
        (OrderedDict(a=1), r"collections\.OrderedDict"),
        (np.random.default_rng(0), r"numpy\.random\._pickle"),
        ([{"deep": {1, Caller(os.getcwd)}}], r"(posix|nt)\.getcwd"),
        (np.array([Caller(os.getcwd)], dtype=object), r"(posix|nt)\.getcwd"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("batch").write_bytes(pickle.dumps(content))
    with pytest.raises(
        DatasetError, match=rf"the pickle names {name}.*, but only plain data and numpy arrays are read"
    ):
        load_plain(Path("batch"))
    assert not Path("ran").exists()


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps(np.zeros(9))[:-30]])
def test_damage(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "batch").write_bytes(data)
    with pytest.raises(DatasetError, match=r"the pickle is damaged: .*batch\]"):
        load_plain(tmp_path / "batch")
