"""What is stored beside runs."""

from __future__ import annotations

import pytest

from probes.statistics.configurations import gather_configurations
from probes.statistics.feature_info import FeatureInfo
from studies.advice.evidence import Evidence

PREPARED = {"stretch": "none", "crop": "none", "resize": 224, "interpolation": "bicubic", "decoder": "pillow"}
SIZES = {"dinov2-s": 22.1, "dinov2-b": 86.6, "resnet-50": 23.5}


@pytest.fixture
def make_evidence():
    """``make_evidence(runs, full-480={"resize": 480})``: the runs' backbones at each of their variants are stored."""

    def make(*runs, **prepared):
        every = [run for part in runs for run in part]
        configurations, elsewhere = gather_configurations(every)
        pairs = dict.fromkeys((run.backbone, run.variant) for run in every if not run.head.startswith("finetune:"))
        infos = [
            FeatureInfo(
                key=f"{backbone}/{variant}",
                backbone=backbone,
                variant=variant,
                preprocessing=PREPARED | prepared.get(variant.replace("-", "_"), {}),
                patch=14 if backbone.startswith("dino") else None,
                params=SIZES.get(backbone, 0.0),
            )
            for backbone, variant in pairs
        ]
        return Evidence("my galaxies/", "kind", configurations, tuple(infos), elsewhere)

    return make
