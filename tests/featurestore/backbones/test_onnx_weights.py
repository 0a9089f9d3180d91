from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from featurestore.backbones import onnx_weights
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.onnx_weights import state_of_onnx
from featurestore.errors import MissingDependencyError, WeightsMismatchError, WeightsUnavailableError

onnx = pytest.importorskip("onnx")


def vit(n_classes: int = 0, seed: int = 0) -> Any:
    """A small ViT without two equal tensors: an export keeps only one of those."""
    torch.manual_seed(seed)
    model = timm.create_model("test_vit", num_classes=n_classes).eval()
    for parameter in model.parameters():
        parameter.data.normal_()
    return model


def export(model: nn.Module, path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (torch.zeros(1, 3, 160, 160),), path, dynamo=False)
    return str(path)


def same(backbone: Any, model: nn.Module) -> bool:
    found, expected = backbone.tokens.model.state_dict(), model.state_dict()
    return all(torch.equal(found[name], expected[name]) for name in found)


class Larger(nn.Module):
    """A model whose backbone is one of its parts."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, nn.Linear(64, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        decoded: torch.Tensor = self.decoder(self.backbone(images))
        return decoded


@pytest.mark.parametrize("n_classes", [0, 10])
def test_tensors_are_found_by_name(n_classes: int, tmp_path: Path) -> None:
    model = vit(n_classes)
    backbone = load_backbone("timm:test_vit", export(model, tmp_path / "vit.onnx"))
    assert same(backbone, model)
    assert backbone.weights_check == (
        "78 tensors by name, all of the model's shapes; "
        f"{2 if n_classes else 0} others of the file do not belong to it and were left out"
    )


def test_what_is_around_the_backbone_is_left_out(tmp_path: Path) -> None:
    model = vit()
    backbone = load_backbone("timm:test_vit", export(Larger(model), tmp_path / "larger.onnx"))
    assert same(backbone, model)
    assert "78 tensors by name" in backbone.weights_check
    assert "2 others of the file" in backbone.weights_check


def test_what_has_no_name_goes_by_its_order(tmp_path: Path) -> None:
    model, path = vit(), tmp_path / "vit.onnx"
    export(model, path)
    graph = onnx.load(path)
    for number, node in enumerate(graph.graph.node):
        node.name = f"node_{number}"
    onnx.save(graph, path)
    backbone = load_backbone("timm:test_vit", str(path))
    assert same(backbone, model)
    assert "54 tensors by name and 24 by their order in the graph" in backbone.weights_check


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:test_vit2", "tensors are there by name"),
        ("timm:vit_tiny_patch16_224", "tensors are there by name"),
        ("timm:resnet18", "0 of .* tensors are there by name"),
    ],
)
def test_weights_of_another_model_are_refused(name: str, message: str, tmp_path: Path) -> None:
    path = export(vit(), tmp_path / "vit.onnx")
    with pytest.raises(WeightsMismatchError, match=rf"do not fit the architecture: .*{message}"):
        load_backbone(name, path)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    model = vit()
    path = Path(export(model, tmp_path / "vit.onnx"))
    wanted = {name: tensor.shape for name, tensor in model.state_dict().items()} | {"norm.bias": torch.Size([65])}
    with pytest.raises(WeightsMismatchError, match=r"norm.bias has the shape \(64,\), not \(65,\)"):
        state_of_onnx(path, wanted)


def test_counters_that_no_export_holds_are_zero(tmp_path: Path) -> None:
    path = Path(export(nn.Sequential(nn.Conv2d(3, 2, 160), nn.Flatten(), nn.Linear(2, 2)), tmp_path / "net.onnx"))
    shapes = {"0.weight": (2, 3, 160, 160), "0.bias": (2,), "2.weight": (2, 2), "2.bias": (2,)}
    wanted = {name: torch.Size(shape) for name, shape in shapes.items()}
    state, _ = state_of_onnx(path, wanted | {"1.num_batches_tracked": torch.Size([])})
    assert state["1.num_batches_tracked"] == 0


def test_damage_is_refused(tmp_path: Path) -> None:
    path = Path(export(vit(), tmp_path / "vit.onnx"))
    for content in (b"", b"no graph at all", path.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises((WeightsUnavailableError, WeightsMismatchError), match=r"\[.*vit.onnx\]"):
            load_backbone("timm:test_vit", str(path))


def test_onnx_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_weights, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"need the library onnx .*pip install 'skyprobe\[onnx\]'"):
        state_of_onnx(Path("vit.onnx"), {})
