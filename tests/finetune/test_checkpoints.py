"""A full disk is a file-size limit of the process: writes beyond it fail as they do on a full disk."""

from __future__ import annotations

import resource
import signal
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import save_file

from featurestore.errors import FinetuneError, StoreWriteError
from featurestore.files import write_atomically
from finetune.checkpoints import FIELDS, check_folder, read_checkpoint, telling, write_checkpoint

STATE = dict.fromkeys(FIELDS, 0) | {"module": {"weight": torch.arange(50_000.0)}}
CPU = torch.device("cpu")


@contextmanager
def full_disk(n_bytes=4096):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_comes_back(tmp_path):
    write_checkpoint(tmp_path / "last.pt", STATE, 1)
    found = read_checkpoint(tmp_path / "last.pt", CPU)
    assert found.keys() == STATE.keys()
    assert torch.equal(found["module"]["weight"], STATE["module"]["weight"])


def test_on_a_full_disk_the_last_checkpoint_stays(tmp_path):
    path = tmp_path / "last.pt"
    write_checkpoint(path, STATE, 1)
    before = path.read_bytes()
    message = r"the file cannot be written: .*last\.pt.*free space.*the checkpoint of epoch 1 is whole: .*--resume"
    with full_disk(), pytest.raises(StoreWriteError, match=message):
        write_checkpoint(path, STATE, 2)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["last.pt"], "no part is left behind"


def test_on_a_full_disk_the_first_checkpoint_is_none(tmp_path):
    with full_disk(), pytest.raises(StoreWriteError, match="Meanwhile no epoch is saved yet"):
        write_checkpoint(tmp_path / "last.pt", STATE, 1)
    assert list(tmp_path.iterdir()) == []


def test_errors_of_safetensors_are_told_too(tmp_path):
    def write():
        with telling(tmp_path, "all is well"):
            write_atomically(tmp_path / "a.safetensors", lambda part: save_file(STATE["module"], part))

    with full_disk(), pytest.raises(StoreWriteError, match=r"cannot be written: .*Meanwhile all is well"):
        write()


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "a list", "a field is missing"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path = tmp_path / "last.pt"
    write_checkpoint(path, STATE, 1)
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-2000])
        case "empty":
            path.write_bytes(b"")
        case "text":
            path.write_text("no checkpoint")
        case "a list":
            torch.save([1, 2], path)
        case _:
            torch.save(dict.fromkeys(FIELDS[1:], 0), path)
    with pytest.raises(FinetuneError, match=r"the checkpoint cannot be read .*last\.pt.*Delete it"):
        read_checkpoint(path, CPU)


def test_a_folder_that_cannot_be_written_is_refused_before_the_training(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreWriteError, match=r"cannot be written.*Meanwhile nothing was trained yet"):
        check_folder(tmp_path / "file" / "run")
    check_folder(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
