"""Processor, memory and GPU as the system tells them."""

from __future__ import annotations

import pytest

from studies.doctor import machine
from studies.doctor.machine import examine_machine, processor_features


@pytest.fixture
def find(monkeypatch, tmp_path):
    """The finding of one part, on a machine without a GPU."""
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path / "nvidiactl")

    def examine(part, *, load_torch=False):
        return {one.part: one for one in examine_machine(load_torch=load_torch)}[part]

    return examine


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor : 0\nflags\t\t: fpu avx2 amx_bf16 avx512f\nflags\t\t: sve\n", ["avx2", "avx512f", "amx_bf16"]),
        ("processor : 0\nFeatures\t: fp asimd sve\n", ["asimd", "sve"]),
        ("processor : 0\n", []),
    ],
)
def test_features_of_the_first_processor(monkeypatch, tmp_path, text, features):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
    assert processor_features() == features


def test_a_system_without_that_file(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "none")
    assert processor_features() == []


def test_processors_that_this_process_may_not_use_are_told(find, monkeypatch):
    monkeypatch.setattr(machine, "count_processors", lambda: 3)
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 64)
    assert "3 of 64 processors" in find("processor").found


def test_little_memory_is_a_note_with_options_that_help(find, monkeypatch):
    monkeypatch.setattr(machine, "available_memory", lambda: 1_500_000_000)
    found = find("memory")
    assert (found.state, found.found) == ("note", "only 1.5 GB available")
    assert "--workers 1" in found.mend


def test_a_machine_without_a_gpu(find):
    assert find("gpu").state == "note"
    assert find("gpu").mend == ""


def make_tool(tmp_path, monkeypatch, script):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setenv("PATH", str(tmp_path))


def test_a_gpu_is_named_by_its_driver(find, monkeypatch, tmp_path):
    make_tool(tmp_path, monkeypatch, "echo 'X100, 80 GiB, 600.1'; echo 'X100, 80 GiB, 600.1'")
    assert find("gpu").found == "X100, 80 GiB, 600.1; X100, 80 GiB, 600.1"


def test_a_driver_that_fails_is_broken(find, monkeypatch, tmp_path):
    make_tool(tmp_path, monkeypatch, "exit 9")
    assert find("gpu").state == "broken"
    assert "exit status 9" in find("gpu").found


def test_torch_computes_on_the_processor(find):
    found = find("torch on cpu", load_torch=True)
    assert found.state == "ok"
    assert found.found.startswith("torch 2.")


def test_a_device_that_fails_is_broken(find, monkeypatch):
    import torch

    def fail(*size, device):
        raise RuntimeError("no kernel image\nmore")

    monkeypatch.setattr(torch, "ones", fail)
    found = find("torch on cpu", load_torch=True)
    assert found.state == "broken"
    assert found.found.endswith(": no kernel image more")
