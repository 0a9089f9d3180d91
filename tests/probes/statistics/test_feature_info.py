"""What is known of stored features."""

from __future__ import annotations

import pytest

from probes.statistics.feature_info import same_family


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
    ],
)
def test_a_family_differs_in_size_alone(first, second, same):
    assert same_family(first, second) is same
