from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from featurestore.backbones.base import Backbone
from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.errors import BackboneError, UnknownNameError, WeightsMismatchError, WeightsUnavailableError

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
CONFIGS = {
    "dinov2": transformers.Dinov2Config(**SMALL),
    "dinov2_with_registers": transformers.Dinov2WithRegistersConfig(**SMALL, num_register_tokens=3),
    "dinov3_vit": transformers.DINOv3ViTConfig(**SMALL, num_register_tokens=2),
    "ijepa": transformers.IJepaConfig(**SMALL),
    "siglip_vision_model": transformers.SiglipVisionConfig(**SMALL),
    "vit": transformers.ViTConfig(**SMALL),
    "vit_mae": transformers.ViTMAEConfig(**SMALL),
    "vit_msn": transformers.ViTMSNConfig(**SMALL),
    "radio": transformers.RadioConfig(**SMALL, max_img_size=128, num_registers=2),
}
N_PREFIX = {"ijepa": 0, "siglip_vision_model": 0, "dinov2_with_registers": 4, "dinov3_vit": 3, "radio": 5}


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    """A model folder as the hub lays it out."""

    def save(kind: str) -> tuple[str, Any]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            config = CONFIGS[kind]
            options = {"add_pooling_layer": False} if kind == "vit" else {}
            model = transformers.MODEL_MAPPING[type(config)](config, **options).eval()
        model.save_pretrained(tmp_path / kind)
        return str(tmp_path / kind), model

    return save


def open_folder(path: str, image_size: int = 64) -> Backbone:
    return load_backbone(f"transformers:{path}", weights=path, image_size=image_size)


@pytest.mark.parametrize("kind", sorted(CONFIGS.keys() - {"vit_mae"}))
def test_tokens_are_those_of_the_library(kind: str, folder: Any, embed: Any, images: Any) -> None:
    path, model = folder(kind)
    backbone = open_folder(path)
    features = embed(backbone, images(size=64))
    with torch.inference_mode():
        output = model(images(size=64))
    tokens, n_prefix = output.last_hidden_state, N_PREFIX.get(kind, 1)
    assert torch.equal(features.patches, tokens[:, n_prefix:].unflatten(1, (4, 4)))
    if "cls" in backbone.spec.poolings:
        assert torch.equal(pool(features, "cls"), tokens[:, 0])
    if kind in ("dinov2_with_registers", "dinov3_vit"):
        assert torch.equal(features.registers, tokens[:, 1:n_prefix])
    if kind == "siglip_vision_model":
        torch.testing.assert_close(pool(features, "map"), output.pooler_output)
    if kind == "radio":
        assert torch.equal(pool(features, "summary"), tokens[:, [0, 1]].flatten(1))
    for pooling in backbone.spec.poolings:
        assert pool(features, pooling).shape[0] == 2


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_another_input_size(kind: str, folder: Any, embed: Any, images: Any) -> None:
    assert embed(open_folder(folder(kind)[0], 96), images(size=96)).patches.shape == (2, 6, 6, 32)


def test_mae_sees_every_patch_in_its_order(folder: Any, embed: Any, images: Any) -> None:
    """Against its layers applied by hand to all patches; the library itself would mask three quarters."""
    path, model = folder("vit_mae")
    with torch.inference_mode():
        embeddings = model.embeddings
        patches = embeddings.patch_embeddings(images(size=64)) + embeddings.position_embeddings[:, 1:]
        cls = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(2, -1, -1)
        model.embeddings.forward = lambda *_, **__: (torch.cat([cls, patches], dim=1), None, None)
        expected = model(images(size=64)).last_hidden_state
    backbone = open_folder(path)
    first, second = (embed(backbone, images(size=64)) for _ in range(2))
    torch.testing.assert_close(first.patches.flatten(1, 2), expected[:, 1:])
    torch.testing.assert_close(first.cls, expected[:, 0])
    assert torch.equal(first.patches, second.patches)


def test_mae_of_the_usual_size_keeps_196_patches(embed: Any, images: Any, tmp_path: Path) -> None:
    config = transformers.ViTMAEConfig(**SMALL | {"image_size": 224})
    transformers.ViTMAEModel(config).save_pretrained(tmp_path)
    assert embed(open_folder(str(tmp_path), 224), images(1, 224)).patches.shape == (1, 14, 14, 32)


def test_radio_normalises_inside(folder: Any) -> None:
    spec = find_spec(f"transformers:{folder('radio')[0]}")
    assert (spec.mean, spec.std, spec.poolings) == ((0.0,) * 3, (1.0,) * 3, ("summary", "avg_patch"))


def test_random_weights_need_no_hub(load: Any, embed: Any, images: Any) -> None:
    features = embed(load("msn-s"), images())
    assert features.patches.shape == (2, 6, 6, 384)
    assert torch.isfinite(pool(features, "cls")).all()


def test_a_bare_file_needs_no_configuration(tmp_path: Path, load: Any) -> None:
    backbone = load("msn-s")
    save_file(backbone.tokens.model.state_dict(), tmp_path / "msn.safetensors")
    again = load_backbone("msn-s", weights=str(tmp_path / "msn.safetensors"), image_size=96)
    assert again.weights_hash == backbone.weights_hash


@pytest.mark.parametrize("damage", ["missing", "shape"])
def test_incomplete_weights_are_refused(damage: str, folder: Any) -> None:
    path, _ = folder("vit_msn")
    file = Path(path) / "model.safetensors"
    state = load_file(file)
    name = next(key for key in state if key.endswith(("q_proj.weight", "query.weight")))
    if damage == "missing":
        del state[name]
    else:
        state[name] = torch.zeros(3, 3)
    save_file(state, file, metadata={"format": "pt"})
    message = "1 tensors are missing, such as" if damage == "missing" else "tensors of other shapes"
    with pytest.raises(WeightsMismatchError, match=message):
        open_folder(path)


def test_hub_out_of_reach() -> None:
    with pytest.raises(WeightsUnavailableError, match=r"cannot be downloaded: .* \[facebook/vit-msn-base\]"):
        load_backbone("msn-b")
    with pytest.raises(WeightsUnavailableError, match="cannot be downloaded"):
        find_spec("transformers:someone/something")


def test_a_folder_without_weights_is_refused(folder: Any) -> None:
    path, _ = folder("vit")
    (Path(path) / "model.safetensors").unlink()
    with pytest.raises(WeightsUnavailableError, match=r"no file named model.safetensors"):
        open_folder(path)


@pytest.mark.parametrize("allowed", [False, True])
def test_code_runs_only_when_allowed(allowed: bool, tmp_path: Path) -> None:
    """A folder with code that raises when it runs."""
    (tmp_path / "config.json").write_text(
        '{"model_type": "intruder", "auto_map": {"AutoConfig": "intruder.C", "AutoModel": "intruder.M"}}'
    )
    (tmp_path / "intruder.py").write_text("raise SystemError('the code ran')\n")
    error, message = (SystemError, "the code ran") if allowed else (BackboneError, "allow it by --trust-remote-code")
    with pytest.raises(error, match=message):
        load_backbone("radio-b", weights=str(tmp_path), trust_remote_code=allowed)


def test_unknown_type_of_model(tmp_path: Path) -> None:
    transformers.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(UnknownNameError, match=r"unknown transformers model type of .* 'bert'"):
        find_spec(f"transformers:{tmp_path}")
