"""`skyprobe doctor` from the outside."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from huggingface_hub import constants

from cli import main
from studies.doctor import examination
from studies.doctor.finding import Finding

FINE = Finding("gpu", "ok", "one")
NOTE = Finding("extra cpu", "note", "openvino is not installed", "pip install 'skyprobe[cpu]'")
BROKEN = Finding("store", "broken", "a chunk is lost", "skyprobe verify --repair")


@pytest.fixture
def run(monkeypatch):
    def invoke(findings, *words):
        monkeypatch.setattr(examination, "examine", lambda store, backbones, load_torch: findings)
        return CliRunner().invoke(main, ["doctor", *words])

    return invoke


def test_notes_are_no_failure_and_their_commands_are_shown(run):
    result = run([FINE, NOTE])
    assert result.exit_code == 0
    assert "What helps:\nextra cpu: pip install 'skyprobe[cpu]'\n" in result.stdout


def test_what_is_broken_is_a_failure(run):
    assert run([FINE, NOTE, BROKEN]).exit_code == 1


def test_json(run):
    result = run([FINE, BROKEN], "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)[1] == {
        "part": "store", "state": "broken", "found": "a chunk is lost", "mend": "skyprobe verify --repair",
    }  # fmt: skip


def test_all_is_looked_at(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    result = CliRunner().invoke(main, ["doctor", "--store", str(tmp_path / "none"), "--json"])
    parts = [one["part"] for one in json.loads(result.stdout)]
    assert {"processor", "gpu", "libraries", "weights", "cache of Hugging Face", "store", "network"} <= set(parts)


def test_an_unknown_backbone_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(main, ["doctor", "-b", "dinov2-bb", "--store", str(tmp_path / "none")])
    assert result.exit_code == 2
