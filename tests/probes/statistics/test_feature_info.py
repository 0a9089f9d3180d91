"""What is known of stored features."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest

from probes.statistics.feature_info import FeatureInfo, count_params, describe_features, differ_in, same_family

SMALL = FeatureInfo("0123", "dinov2-s", "full-224", {"resize": 224}, 14, 22.1)
BIG = replace(SMALL, backbone="dinov2-b", params=86.6)
UNKNOWN = replace(SMALL, backbone="mine", params=0.0)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("dinov2-s", "dinov2-b", True),
        ("resnet-50", "resnet-152", True),
        ("dinov2-s-reg", "dinov2-b-reg", True),
        ("dinov2-s", "dinov2-s", False),
        ("dinov2-s", "dinov2-b-reg", False),
        ("mae-b", "msn-b", False),
        ("siglip-b", "siglip-so400m", True),
        ("clip-b-openai", "clip-b-laion", False),
        ("resnet-50-s", "resnet-152-b", False),
        ("resnet-50", "resnet-50d", False),
    ],
)
def test_a_family_differs_in_size_alone(first, second, same):
    assert same_family(first, second) is same
    assert same_family(second, first) is same


def test_features_say_what_is_known_of_them(toy_features):
    bare = describe_features(toy_features)
    assert (bare.key, bare.backbone, bare.variant) == (toy_features.key.short, "net_b", "full-224")
    assert bare.preprocessing == {"resize": 224, "crop": "none"}
    assert (bare.patch, bare.params, bare.weights) == (None, 0.0, "")
    told = {"spec": {"patch_size": 14, "params": 22.1}, "weights": "pypi:net"}
    known = describe_features(replace(toy_features, provenance=told))
    assert (known.patch, known.params, known.weights) == (14, 22.1, "pypi:net")
    with pytest.raises(FrozenInstanceError):
        known.params = 1.0


def test_parameters_of_combined_backbones_add_up():
    infos = [SMALL, BIG, UNKNOWN]
    assert count_params("dinov2-s", infos) == 22.1
    assert count_params("dinov2-s+dinov2-b", infos) == pytest.approx(108.7)
    assert count_params("dinov2-s+mine", infos) == count_params("of no store", infos) == count_params("mine", []) == 0


PLAIN = {"resize": 224, "crop": "none", "interpolation": "bicubic"}


@pytest.mark.parametrize(
    ("changes", "field", "differ"),
    [
        ({"crop": "box"}, "crop", True),
        ({"resize": 480}, "resize", True),
        ({"resize": 480, "interpolation": "bilinear"}, "resize", True),
        ({"crop": "box", "interpolation": "bilinear"}, "crop", False),
        ({"resize": 480, "crop": "box"}, "resize", False),
        ({"interpolation": "bilinear"}, "resize", False),
        ({}, "crop", False),
        ({"stretch": "asinh"}, "stretch", True),
        ({"crop": "box", "stretch": "asinh"}, "crop", False),
    ],
)
def test_preprocessings_that_differ_in_one_field(changes, field, differ):
    assert differ_in(PLAIN, PLAIN | changes, field) is differ
    assert differ_in(PLAIN | changes, PLAIN, field) is differ
