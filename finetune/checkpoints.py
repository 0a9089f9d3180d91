"""Files of trainings: written whole or not at all, read with care, and errors that say what is safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from featurestore.errors import FinetuneError, StoreWriteError
from featurestore.files import write_atomically

FIELDS = ("identity", "history", "module", "best", "optimiser", "scaler")
"""What a checkpoint holds."""

RESUME = "the training is safe in its checkpoint: run the same command again with --resume"


def check_folder(folder: Path) -> None:
    """Find out before a training whether its files can be written; the folder is made if need be.

    Raises:
        StoreWriteError: They cannot.
    """
    with telling(folder, "nothing was trained yet"):
        write_atomically(folder / ".writable", lambda part: part.write_bytes(b"0")).unlink()


def write_checkpoint(path: Path, state: Mapping[str, Any], epoch: int) -> None:
    """Replace the checkpoint by that of an epoch; the old one is there until the new one is whole.

    Raises:
        StoreWriteError: The disk is full, or the folder cannot be written.
    """
    safe = f"the checkpoint of epoch {epoch - 1} is whole: go on from it with --resume" if epoch > 1 else ""
    with telling(path, safe or "no epoch is saved yet"):
        write_atomically(path, lambda part: torch.save(dict(state), part))


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """The fields of a checkpoint, `FIELDS`, with tensors on the device.

    Raises:
        FinetuneError: It is damaged, or no checkpoint.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
        return {name: state[name] for name in FIELDS}
    except Exception as error:  # a damaged file can raise nearly anything in the unpickler
        raise FinetuneError(
            "the checkpoint cannot be read", where=path, hint="Delete it, and start without --resume."
        ) from error


@contextmanager
def telling(path: Path, safe: str) -> Iterator[None]:
    """Errors of writing become one error that also says what is safe; torch and safetensors have errors of their own.

    Args:
        path: What is written.
        safe: A clause.

    Raises:
        StoreWriteError: The block failed to write.
    """
    try:
        yield
    except StoreWriteError as error:
        raise StoreWriteError(error.what, where=error.where, hint=f"{error.hint} Meanwhile {safe}.") from error
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise StoreWriteError(
            f"the file cannot be written: {reason}",
            where=path,
            hint=f"Check permissions and free space, or give another folder. Meanwhile {safe}.",
        ) from error
