from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.errors import BackboneError, UnknownNameError, WeightsMismatchError, WeightsUnavailableError

TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 2, "layers": 1}
VISION: dict[str, dict[str, Any]] = {
    "plain": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "average": {
        "image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16, "pool_type": "avg",
        "final_ln_after_pool": True,
    },
    "timm": {"image_size": 64, "timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear"},
    "map": {"image_size": 64, "timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"},
}  # fmt: skip
TRAINING = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """A small CLIP in a folder, as open_clip writes it."""

    def save(kind: str) -> tuple[str, Any]:
        config = {"embed_dim": 8, "vision_cfg": VISION[kind], "text_cfg": TEXT}
        (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": TRAINING}))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            model: Any = open_clip.CLIP(**config).eval()
        save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
        return f"local-dir:{tmp_path}", model

    return save


@pytest.mark.parametrize(("kind", "own"), [("plain", "cls"), ("average", "avg_patch"), ("timm", "cls")])
def test_the_own_pooling_leads_to_the_image_features(kind: str, own: str, folder: Any, embed: Any, images: Any) -> None:
    """The tower's own projection of our pooled vector is what open_clip gives."""
    model_id, model = folder(kind)
    backbone = load_backbone(f"open_clip:{model_id}")
    assert backbone.spec.poolings[0] == own
    assert (backbone.spec.image_size, backbone.spec.patch_size) == (64, 16)
    assert (backbone.spec.mean, backbone.spec.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    features = embed(backbone, images(size=64))
    with torch.inference_mode():
        expected = model.encode_image(images(size=64))
        pooled = pool(features, own)
        found = model.visual.head(pooled) if kind == "timm" else pooled @ model.visual.proj
    torch.testing.assert_close(found, expected)
    assert features.patches.shape == (2, 4, 4, 64)
    for pooling in backbone.spec.poolings:
        assert pool(features, pooling).shape == (2, 128 if pooling == "cls_avg_patch" else 64)


def test_a_convolutional_tower_is_averaged(folder: Any, embed: Any, images: Any) -> None:
    model_id, model = folder("map")
    backbone = load_backbone(f"open_clip:{model_id}")
    features = embed(backbone, images(size=64))
    with torch.inference_mode():
        expected = model.visual.trunk.forward_features(images(size=64)).permute(0, 2, 3, 1)
    assert backbone.spec.poolings == ("avgpool",)
    torch.testing.assert_close(features.patches, expected)
    assert pool(features, "avgpool").shape == (2, 64)


def test_another_input_size(folder: Any, embed: Any, images: Any) -> None:
    model_id, _ = folder("plain")
    backbone = load_backbone(f"open_clip:{model_id}", image_size=96)
    assert embed(backbone, images(size=96)).patches.shape == (2, 6, 6, 64)


def test_openai_weights_want_their_own_activation(load: Any) -> None:
    backbone = load("clip-b32-openai", 64)
    assert any(isinstance(part, open_clip.transformer.QuickGELU) for part in backbone.tokens.modules())


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "wrong.safetensors")
    with pytest.raises(WeightsMismatchError, match="do not fit the architecture"):
        load_backbone("clip-b32-openai", weights=str(tmp_path / "wrong.safetensors"))


def test_a_folder_of_other_weights_is_refused(folder: Any, tmp_path: Path) -> None:
    model_id, _ = folder("plain")
    save_file({"visual.proj": torch.zeros(2, 2)}, tmp_path / "open_clip_model.safetensors")
    with pytest.raises(WeightsMismatchError, match="do not fit the architecture"):
        load_backbone(f"open_clip:{model_id}")
    (tmp_path / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsUnavailableError, match="the folder holds no weights"):
        load_backbone(f"open_clip:{model_id}")


def test_hub_out_of_reach() -> None:
    with pytest.raises(WeightsUnavailableError, match=r"cannot be downloaded: .* \[ViT-B-32/openai\].*--weights PATH"):
        load_backbone("clip-b32-openai")


@pytest.mark.parametrize(
    ("model_id", "error", "message"),
    [
        ("ViT-B-33/openai", UnknownNameError, "unknown open_clip model 'ViT-B-33'.*ViT-B-32"),
        ("ViT-B-32/opnai", UnknownNameError, "unknown weights of ViT-B-32 'opnai'.*openai"),
        ("ViT-B-32", UnknownNameError, "unknown weights of ViT-B-32 ''.*openai"),
        ("RN50/openai", BackboneError, "pools by attention of its own kind"),
        ("local-dir:/nowhere", WeightsUnavailableError, "open_clip_config.json"),
    ],
)
def test_what_cannot_be_built(model_id: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        find_spec(f"open_clip:{model_id}")
