"""Every family of timm: a small member on the device meta, where tensors have shapes and no values; and those that do
not end in a map with values, against timm itself."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch

from featurestore.backbones.adapters.timm_layout import find_layout
from featurestore.backbones.base import BackboneSpec
from featurestore.backbones.catalogue import ADAPTERS, find_spec
from featurestore.backbones.engines.base import Runtime, compile_forward
from featurestore.backbones.layers import InnerTokens
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.backbones.weights import WeightsSource
from featurestore.errors import BackboneError, PoolingError

SMALL = {
    "beit": "beit_base_patch16_224", "byoanet": "halonet_h1", "byobnet": "test_byobnet", "cait":
    "cait_xxs24_224", "coat": "coat_tiny", "convit": "convit_tiny", "convmixer": "convmixer_768_32", "convnext":
    "test_convnext", "cpubone": "cpubone_nano", "crossvit": "crossvit_tiny_240", "csatv2": "csatv2", "cspnet":
    "cs3darknet_focus_s", "cspnext": "cspnext_tiny", "davit": "davit_tiny", "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224", "densenet": "densenet121", "dla": "dla46x_c", "dpn": "dpn48b", "edgenext":
    "edgenext_xx_small", "efficientformer": "efficientformer_l1", "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "test_efficientnet", "efficientvim": "efficientvim_m1", "efficientvit_mit":
    "efficientvit_b0", "efficientvit_msra": "efficientvit_m0", "eva": "vit_tiny_patch16_dinov3_qkvb",
    "fasternet": "fasternet_t0", "fastvit": "fastvit_t8", "focalnet": "focalnet_tiny_srf", "gcvit":
    "gcvit_xxtiny", "gemma4_vit": "gemma4_vit_167m", "ghostnet": "ghostnet_050", "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0", "hiera": "hiera_tiny_224", "hieradet_sam2": "sam2_hiera_tiny", "hrnet":
    "hrnet_w18_small", "iformer": "iformer_t", "inception_next": "inception_next_atto", "inception_resnet_v2":
    "inception_resnet_v2", "inception_v3": "inception_v3", "inception_v4": "inception_v4", "lcnetv2":
    "lcnetv2_small", "levit": "levit_128s", "lowformer": "lowformer_b0", "mambaout": "test_mambaout", "maxxvit":
    "test_coatnet", "metaformer": "poolformerv2_s12", "mlp_mixer": "gmlp_ti16_224", "mobilenetv3": "lcnet_035",
    "mobilenetv5": "mobilenetv5_base", "mobilevit": "mobilevit_xxs", "mvitv2": "mvitv2_tiny", "naflexvit":
    "naflexvit_base_patch16_parfac_gap", "nasnet": "nasnetalarge", "nest": "nest_tiny_jx", "nextvit":
    "nextvit_small", "nfnet": "test_nfnet", "pit": "pit_ti_224", "pnasnet": "pnasnet5large", "pvt_v2":
    "pvt_v2_b0", "qwen3_vit": "qwen3_vit_88m", "rdnet": "rdnet_tiny", "regnet": "regnetx_002", "repghost":
    "repghostnet_050", "repvit": "repvit_m1", "res2net": "res2next50", "resnest": "resnest14d", "resnet":
    "test_resnet", "resnetv2": "resnetv2_18", "rexnet": "rexnet_100", "selecsls": "selecsls42", "senet":
    "legacy_seresnet18", "sequencer": "sequencer2d_s", "shvit": "shvit_s1", "sknet": "skresnet18", "starnet":
    "starnet_s050", "swiftformer": "swiftformer_xs", "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window16_256", "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224", "tnt": "tnt_s_legacy_patch16_224", "tresnet": "tresnet_m", "twins":
    "twins_svt_small", "vgg": "vgg11", "visformer": "visformer_tiny", "vision_transformer": "test_vit",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224", "vision_transformer_relpos": "test_vit_relpos",
    "vision_transformer_sam": "samvit_base_patch16_224", "vitamin": "vitamin_small_224", "volo": "volo_d1_224",
    "vovnet": "ese_vovnet19b_slim_dw", "xception": "legacy_xception", "xception_aligned": "xception41p", "xcit":
    "xcit_nano_12_p8_224"
}  # fmt: skip
"""The member of each of timm's modules with the fewest parameters."""

FAMILIES = [SMALL.get(module) or timm.list_models(module=module)[0] for module in timm.list_modules()]
TOKENS = {
    "mixer_s32_224": (7, "avg_patch"), "gmixer_12_224": (14, "avg_patch"), "resmlp_12_224": (14, "avg_patch"),
    "gmlp_ti16_224": (14, "avg_patch"), "levit_128s": (4, "avg_patch"), "hiera_tiny_224": (7, "avg_patch"),
    "mvitv2_tiny": (7, "avg_patch"), "twins_svt_small": (7, "avg_patch"), "volo_d1_224": (14, "cls"),
    "xcit_nano_12_p16_224": (14, "cls"), "tnt_s_legacy_patch16_224": (14, "cls"),
    "vitamin_small_224": (14, "avg_patch"), "efficientformer_l1": (7, "avg_patch"),
    "coat_lite_tiny": (7, "cls"), "vit_tiny_r_s16_p8_224": (7, "cls"), "convit_tiny": (14, "cls"),
}  # fmt: skip
"""Rows of the grid at 224 px, by the strides in the papers, and the pooling that the model has of its own."""

POOLED = {"crossvit_9_240": "cls", "coat_tiny": "cls", "pit_ti_224": "cls", "efficientvim_m1": "avgpool"}
TORCH = Runtime("torch", "cpu", "fp32")


def on_meta(spec: BackboneSpec) -> Any:
    with torch.device("meta"):
        source = WeightsSource("random", "0")
        module = ADAPTERS.get("timm").build(spec, source, spec.image_size, False).eval()
        return module(torch.zeros(1, 3, spec.image_size, spec.image_size))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_features(name: str) -> None:
    spec = find_spec(f"timm:{name}")
    features = on_meta(spec)
    for kind in spec.poolings:
        assert pool(features, kind).shape[0] == 1
        assert pool(features, kind).ndim == 2
    assert (features.patches is not None) == spec.dense
    if spec.patch_size:
        side = spec.image_size // spec.patch_size
        assert features.patches.shape[1:3] == (side, side)


@pytest.mark.parametrize("name", TOKENS)
def test_tokens_are_those_of_timm_in_rows_and_columns(name: str, embed: Any, images: Any) -> None:
    side, own = TOKENS[name]
    backbone: Any = load_backbone(f"timm:{name}", "random:0")
    batch = images(1, 224)
    features, model = embed(backbone, batch), backbone.tokens.model
    with torch.inference_mode():
        expected, tokens = model(batch), model.forward_features(batch)
    assert backbone.spec.poolings[0] == own
    assert torch.equal(pool(features, own), expected)
    assert torch.equal(features.patches.flatten(1, 2), tokens[:, tokens.shape[1] - side * side :])
    assert features.patches.shape[1:3] == (side, side)
    if name == "levit_128s":
        return  # at random weights its attention is everywhere alike: see its twin below
    changed = batch.clone()
    changed[..., : 224 // side, -224 // side :] += torch.rand(3, 224 // side, 224 // side)
    moved = (embed(backbone, changed).patches - features.patches)[0].norm(dim=-1)
    row, column = divmod(int(moved.argmax()), side)
    assert row <= 1, f"the top right corner moved row {row}"
    assert column >= side - 2, f"the top right corner moved column {column}"


def test_the_grid_of_levit_is_the_map_of_its_twin(embed: Any, images: Any) -> None:
    """The same network, written with convolutions, ends in a map."""
    backbone: Any = load_backbone("timm:levit_128s", "random:0")
    twin = timm.create_model("levit_conv_128s", num_classes=0).eval()
    state, shapes = backbone.tokens.model.state_dict(), twin.state_dict()
    twin.load_state_dict({name: state[name].reshape(value.shape) for name, value in shapes.items()})
    with torch.inference_mode():
        expected = twin.forward_features(images(1, 224)).permute(0, 2, 3, 1)
    torch.testing.assert_close(embed(backbone, images(1, 224)).patches, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", POOLED)
def test_a_model_without_a_grid_has_pooled_features_alone(name: str, embed: Any, images: Any) -> None:
    backbone: Any = load_backbone(f"timm:{name}", "random:0")
    batch = images(1, backbone.spec.image_size)
    features = embed(backbone, batch)
    with torch.inference_mode():
        assert torch.equal(pool(features, POOLED[name]), backbone.tokens.model(batch))
    assert backbone.spec.poolings == (POOLED[name],)
    assert not backbone.spec.dense
    with pytest.raises(PoolingError, match=r"no grid of patches \[patches\]. Use its pooled features"):
        pool(features, "patches")
    with pytest.raises(PoolingError, match=r"does not offer the pooling 'patches'.*, and no dense features\."):
        compile_forward(backbone, ["patches"], TORCH, 1, 224, 1)
    with pytest.raises(BackboneError, match="no grid of patches, and so none in its inner layers"):
        InnerTokens(backbone.spec, backbone.tokens, 1)


@pytest.mark.parametrize(("name", "size"), [("crossvit_9_240", 120), ("swin_tiny_patch4_window7_224", 160)])
def test_another_size_is_that_of_the_images(name: str, size: int, embed: Any) -> None:
    """CrossViT would shrink every image to its own size without a word; Swin would refuse it."""
    backbone: Any = load_backbone(f"timm:{name}", "random:0", size)
    with torch.inference_mode():
        model = timm.create_model(name, num_classes=0, img_size=size).eval()
        model.load_state_dict(backbone.tokens.model.state_dict())
        batch = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
        assert torch.equal(pool(embed(backbone, batch), backbone.spec.poolings[0]), model(batch))


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_size_that_the_model_does_not_take_is_an_error(engine: str) -> None:
    pytest.importorskip(engine)
    backbone = load_backbone("timm:efficientformer_l1", "random:0", 160)
    message = r"the model does not run on images of 160 px: .* \[timm:efficientformer_l1\]. Use resize=224\."
    with pytest.raises(BackboneError, match=message):
        compile_forward(backbone, ["avg_patch"], Runtime(engine, "cpu", "fp32"), 1, 160, 1)


def test_a_model_without_a_head_to_pool_is_an_error() -> None:
    with pytest.raises(BackboneError, match=r"cannot be used as a backbone: .*\[timm:gemma4_vit_167m_enc\]"):
        find_spec("timm:gemma4_vit_167m_enc")


def test_features_that_have_no_name_are_an_error() -> None:
    with torch.device("meta"):
        model = timm.create_model("efficientvim_m1", num_classes=0)
    model.global_pool = "of another kind"
    with pytest.raises(BackboneError, match="it returns neither a grid nor pooled features that are known"):
        find_layout(model, "efficientvim_m1")


@pytest.mark.parametrize(("old", "new"), [("adv_inception_v3", "inception_v3.tf_adv_in1k")])
@pytest.mark.filterwarnings("ignore:Mapping deprecated model name")
def test_old_names_lead_to_the_new_ones(old: str, new: str) -> None:
    with pytest.raises(BackboneError, match=rf"timm has another name for this model: {new} .*Use timm:{new}\."):
        find_spec(f"timm:{old}")


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("cait_xxs24_224", 1, "do not have the tokens of the last one"),  # the class token comes after these blocks
        ("levit_128s", 1, "do not have the tokens of the last one"),  # a finer grid
        ("hiera_tiny_224", 1, "do not have the tokens of the last one"),
        ("volo_d1_224", 1, "do not have the tokens of the last one"),  # maps
        ("samvit_base_patch16_224", 1, "are not feature maps in the order of the last one"),  # channels last inside
        ("hrnet_w18_small", 1, "do not run one after the other"),
    ],
)
def test_inner_layers_of_another_layout_are_refused(name: str, layer: int, reason: str) -> None:
    spec = find_spec(f"timm:{name}@{layer}")
    with torch.device("meta"):
        tokens = ADAPTERS.get("timm").build(spec, WeightsSource("random", "0"), spec.image_size, False).eval()
        with pytest.raises(BackboneError, match=f"the inner layers of the backbone {reason}"):
            InnerTokens(spec, tokens, layer)(torch.zeros(1, 3, spec.image_size, spec.image_size))
