from __future__ import annotations

import json

import pytest

from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.catalogue import find_spec, list_names


@pytest.mark.parametrize("name", [*list_names(), "dinov2-s@6"])
def test_a_spec_comes_back_from_json(name: str) -> None:
    spec = find_spec(name)
    again = BackboneSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert hash(again) == hash(spec), "lists became tuples again"


def test_an_inner_layer_has_the_poolings_of_tokens_alone() -> None:
    spec = BackboneSpec("net", "timm", "net", ("map", "cls", "avg_patch"))
    inner = spec.at_layer(3)
    assert (inner.name, inner.layer, inner.base) == ("net@3", 3, "net")
    assert inner.poolings == ("cls", "avg_patch")
    assert spec.base == "net"


@pytest.mark.parametrize(("n", "expected"), [(2, (1.0, 2.0)), (3, (1.0, 2.0, 3.0)), (5, (1.0, 2.0, 3.0, 1.0, 2.0))])
def test_more_channels_are_normalised_in_turn(n: int, expected: tuple[float, ...]) -> None:
    spec = BackboneSpec("net", "timm", "net", ("cls",), mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0)).with_channels(n)
    assert spec.mean == expected
    assert spec.std == tuple(value + 3 for value in expected)
