from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import UsageError
from featurestore.store.layout.names import escape, unescape

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(NAMES)
def test_escaping_is_reversible_and_safe(name: str) -> None:
    component = escape(name)
    assert unescape(component) == name
    assert re.fullmatch(r"[A-Za-z0-9._~=,+@%-]+", component)
    assert not component.startswith((".", "__"))
    assert component != "zarr.json"


@pytest.mark.parametrize(
    ("name", "component"),
    [
        ("full-224", "full-224"),
        ("efficientnet-lite0", "efficientnet-lite0"),
        ("timm:resnet18.a1_in1k", "timm%3Aresnet18.a1_in1k"),
        ("resize=480,crop=box:0.2", "resize=480,crop=box%3A0.2"),
        ("a/b\\c", "a%2Fb%5Cc"),
        ("..", "%2E."),
        ("__x", "%5F_x"),
        ("zarr.json", "%7Aarr.json"),
        ("100%", "100%25"),
    ],
)
def test_names_stay_readable(name: str, component: str) -> None:
    assert escape(name) == component


@pytest.mark.parametrize("name", ["", "x" * 241, "é" * 41])
def test_names_that_no_folder_can_have(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a folder"):
        escape(name)
