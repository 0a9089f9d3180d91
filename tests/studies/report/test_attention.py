"""Captions say whose attention is shown, how, and of what."""

import numpy as np
import pytest

from studies.images.attention import Attention
from studies.report.attention import attention_figures


@pytest.fixture
def make():
    rng = np.random.default_rng(5)

    def build(backbone, dataset="rgz", n_latent=0, query="cls", **changes):
        given = {
            "dataset": dataset, "variant": "full-224", "backbone": backbone, "weights_hash": "0" * 64, "scheme": "",
            "classes": (), "sample_ids": ("s1",), "labels": np.array([-1]), "query": query, "unreadable": {},
            "pictures": np.zeros((1, 16, 16, 3), np.uint8),
            "blocks": rng.random((1, 2, 3, 4, 4), dtype=np.float32),
            "pooled": rng.random((1, n_latent, 4, 4), dtype=np.float32),
            "rollout": rng.random((1, 4, 4), dtype=np.float32),
        }  # fmt: skip
        return Attention(**given | changes)

    return build


def test_a_figure_for_each_dataset_and_one_for_each_backbone(make):
    found = [make("dinov2-s"), make("siglip-b", n_latent=3, query="patches"), make("dinov2-s", "mirabest")]
    assert [drawn.name for drawn in attention_figures(found)] == [
        "figure-6-attention-rgz-full-224",
        "figure-6-attention-mirabest-full-224",
        "figure-a-attention-rgz-full-224-dinov2-s",
        "figure-a-attention-rgz-full-224-siglip-b",
        "figure-a-attention-mirabest-full-224-dinov2-s",
    ]


def test_captions_tell_whose_attention_it_is(make):
    found = [make("dinov2-s"), make("siglip-b", n_latent=3, query="patches"), make("ijepa-h", query="patches")]
    six, dino, siglip, ijepa = (drawn.caption for drawn in attention_figures(found, 80.0))
    for caption in (six, dino, siglip, ijepa):
        assert "the 20 % of the image" in caption and "percentile 80" in caption
    assert "the class token (dinov2-s) in the last block" in six
    assert "the mean of patches (ijepa-h) in the last block" in six
    assert "the latent query in the attention pool (siglip-b)" in six
    assert "Attention of the class token of dinov2-s in each block and head" in dino
    assert "rollout of the latent query" in siglip and "The row below the blocks" in siglip
    assert "rollout of the mean of patches" in ijepa and "attention pool" not in ijepa


def test_images_that_were_passed_over_are_named(make):
    (six, _) = attention_figures([make("dinov2-s", unreadable={"s9": "truncated"})])
    assert "Passed over: s9 (truncated)." in six.caption
    assert "dinov2-s" in six.alt


def test_nothing_to_show():
    assert attention_figures([]) == []
