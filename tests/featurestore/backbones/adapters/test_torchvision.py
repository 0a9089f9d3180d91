from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from safetensors.torch import save_file

from featurestore.backbones.catalogue import find_spec
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.pooling import pool
from featurestore.errors import BackboneError, UnknownNameError, WeightsMismatchError, WeightsUnavailableError


@pytest.mark.parametrize("library", ["torchvision", "timm"])
@pytest.mark.parametrize(
    ("name", "logits"),
    [
        ("resnet18", [0.5009, 0.5224, 0.2608, 0.2264]),
        ("resnet50", [12.3466, -19.239, 3.2794, -14.2833]),
    ],
)
def test_published_reference_outputs(library: str, name: str, logits: list[float], tmp_path: Path, embed: Any) -> None:
    """torchvision's own expected outputs, through our features and the model's own classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = torchvision.models.get_model(name, num_classes=50).eval()
        x = torch.rand(1, 3, 224, 224)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    if library == "timm":  # whose head has 1000 classes: drop ours
        state = {key: value for key, value in model.state_dict().items() if not key.startswith("fc.")}
        save_file(state, tmp_path / "model.safetensors")
    backbone = load_backbone(f"{library}:{name}", weights=str(tmp_path))
    with torch.inference_mode():
        found = model.fc(pool(embed(backbone, x), "avgpool"))[0, :4]
    # four decimals are published, and kernels differ a little between processors
    torch.testing.assert_close(found, torch.tensor(logits), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", ["efficientnet_b0", "densenet121", "regnet_y_400mf"])
def test_the_map_is_what_the_network_averages(name: str, load: Any, embed: Any, images: Any) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: Any = torchvision.models.get_model(name).eval()
    head = "fc" if hasattr(model, "fc") else "classifier"
    setattr(model, head, torch.nn.Identity())
    with torch.inference_mode():
        expected = model(images())
    found = pool(embed(load(f"torchvision:{name}"), images()), "avgpool")
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_spec_names_weights() -> None:
    spec = find_spec("torchvision:resnet50/IMAGENET1K_V1")
    assert (spec.image_size, spec.patch_size, spec.poolings, spec.params) == (224, None, ("avgpool",), 25.6)
    assert find_spec("torchvision:efficientnet_v2_s").image_size == 384


@pytest.mark.parametrize(
    ("model_id", "message"),
    [
        ("resnet5", "unknown torchvision model 'resnet5'.*resnet50"),
        ("resnet50/V3", "unknown weights of resnet50 'V3'"),
        ("fcn_resnet50", "unknown torchvision model"),
    ],
)
def test_unknown_names(model_id: str, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        find_spec(f"torchvision:{model_id}")


def test_no_average_pooling() -> None:
    with pytest.raises(BackboneError, match=r"does not end in an average pooling.*timm"):
        load_backbone("torchvision:vit_b_16", weights="random:0")


def test_wrong_weights_are_refused(tmp_path: Path) -> None:
    save_file(torchvision.models.resnet18().state_dict(), tmp_path / "resnet18.safetensors")
    with pytest.raises(WeightsMismatchError, match="do not fit the architecture"):
        load_backbone("torchvision:resnet34", weights=str(tmp_path / "resnet18.safetensors"))


def test_server_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        from urllib.error import URLError

        raise URLError("Temporary failure in name resolution")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("featurestore.backbones.network.answers", lambda url: True)
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(
        WeightsUnavailableError, match=r"cannot be downloaded: .*name resolution.* \[resnet18\].*--weights PATH"
    ):
        load_backbone("torchvision:resnet18", weights="hub")


def test_offline_nothing_is_downloaded_and_what_is_there_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The switch of Hugging Face is one for all libraries; the tests have it set."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("a download"))
    with pytest.raises(WeightsUnavailableError, match=r"there is no .*resnet18-.*\.pth \(HF_HUB_OFFLINE is set\)"):
        load_backbone("torchvision:resnet18", weights="hub")
    state = torchvision.models.resnet18().state_dict()
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    found = load_backbone("torchvision:resnet18", weights="hub").tokens.state_dict()
    assert torch.equal(found["trunk.conv1.weight"], state["conv1.weight"])
