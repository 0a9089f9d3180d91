"""Weights of an ONNX file, under the names of the PyTorch model that it was exported from.

An export keeps the names of most tensors. Weights of linear layers lose theirs, since they are transposed; the path of
the node that multiplies by them still tells it. Names of Hugging Face's DINOv2 become those of timm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.backbones.weights import mismatch, unreadable
from featurestore.errors import MissingDependencyError

if TYPE_CHECKING:
    from torch import Size, Tensor

SUFFIX = ".onnx"
_ANONYMOUS = "onnx::"
_RENAMED = (
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"layer_scale([12])\.lambda1$", r"ls\1.gamma"),
    (r"attention\.attention\.(query|key|value)\.", r"attn.\1."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"layernorm\.", "norm."),
)
"""Names of Hugging Face's DINOv2 -> timm's."""

_COUNTER = "num_batches_tracked"
_POSITIONS = "pos_embed"


def state_of_onnx(path: Path, wanted: Mapping[str, Size], head: Sequence[str] = ()) -> tuple[dict[str, Tensor], str]:
    """The tensors that a model wants, found by name; those without a name by their order in the graph.

    Args:
        path: The file.
        wanted: Name -> shape of every tensor of the model, without its head.
        head: Names of layers of the head, whose tensors are left out.

    Returns:
        The state, and in words how it was found and what was left out.

    Raises:
        MissingDependencyError: The library onnx is not installed.
        WeightsUnavailableError: The file cannot be read.
        WeightsMismatchError: A tensor is missing, has another shape, or belongs to the model and is not wanted. Only
            positions may have another number: they are resampled.
    """
    import torch

    tensors = _to_timm(_read(path))
    needed = [name for name in wanted if not name.endswith(_COUNTER)]
    prefix = _find_prefix(tensors, needed)
    own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    spare = [name for name in own if name not in wanted and not name.startswith(tuple(f"{one}." for one in head))]
    missing = [name for name in needed if name not in own]
    if len(missing) != len(spare):
        one = f"{missing[0]} is missing" if missing else f"{spare[0]} is too many"
        raise mismatch(f"{len(needed) - len(missing)} of {len(needed)} tensors are there by name; {one}", path)
    given = dict(zip(missing, spare, strict=True))
    state = {name: own[given.get(name, name)] for name in needed}
    for name, tensor in state.items():
        if tensor.shape != wanted[name] and name != _POSITIONS:
            raise mismatch(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(wanted[name])}", path)
    state |= {name: torch.tensor(0) for name in wanted if name.endswith(_COUNTER)}
    by_order = f" and {len(missing)} by their order in the graph" if missing else ""
    n_left = len(tensors) - len(needed)
    return state, (
        f"{len(needed) - len(missing)} tensors by name{by_order}, all of the model's shapes; {n_left} others of the "
        "file do not belong to it and were left out"
    )


def _read(path: Path) -> dict[str, Tensor]:
    """Floating point tensors by name, in the order in which the graph uses them; linear weights as torch has them."""
    import torch

    if not find_spec("onnx"):
        raise MissingDependencyError(
            "ONNX weights need the library onnx", where=path, hint="Install it: pip install 'skyprobe[onnx]'."
        )
    import onnx

    try:
        graph = onnx.load(path).graph
        arrays = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
        found = {}
        for tensor, name, transposed in _uses(graph.node, arrays):
            values = arrays.pop(tensor)
            if values.dtype.kind == "f" and values.ndim:
                found[name] = torch.from_numpy((values.T if transposed else values).copy())
    except Exception as error:  # a damaged file can raise nearly anything
        raise unreadable(path, error) from error
    return found


def _uses(nodes: Any, arrays: Mapping[str, Any]) -> Iterator[tuple[str, str, bool]]:
    """Each tensor at its first use: its name in the file, its name here, and whether it is transposed."""
    seen = set()
    for node in nodes:
        module = _module(node.name)
        for place, tensor in enumerate(node.input):
            if tensor not in arrays or tensor in seen:
                continue
            seen.add(tensor)
            linear = node.op_type == "MatMul" and place == 1 and arrays[tensor].ndim == 2
            anonymous = tensor.startswith(_ANONYMOUS)
            name = f"{module}.weight" if linear and anonymous and module else f"{module}.{tensor}".lstrip(".")
            yield tensor, name if anonymous else tensor, linear


def _module(path: str) -> str:
    """The name of the module that a node belongs to: ``/blocks/blocks.0/attn/MatMul`` -> ``blocks.0.attn``."""
    parts = path.strip("/").split("/")
    return ".".join(part for part, child in pairwise(parts) if not child.startswith(f"{part}."))


def _to_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under timm's names, with one weight for queries, keys and values."""
    import torch

    if not any("encoder.layer." in name for name in tensors):
        return tensors
    named: dict[str, Tensor] = {}
    for theirs, tensor in _with_positions(tensors).items():
        named[_timms_name(theirs)] = tensor
    for first in [name for name in named if ".attn.query." in name]:
        parts = [named.pop(first.replace("query", kind), None) for kind in ("query", "key", "value")]
        named[first.replace("query", "qkv")] = torch.cat([part for part in parts if part is not None])
    return named


def _timms_name(name: str) -> str:
    for pattern, timms in _RENAMED:
        name = re.sub(pattern, timms, name)
    return name


def _with_positions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Positions in one piece: an export that interpolates them holds that of the class token apart, without names."""
    import torch

    parts = [name for name, one in tensors.items() if f"embeddings.{_ANONYMOUS}" in name and one.ndim == 3]
    if len(parts) != 2:
        return tensors
    start = parts[0].partition(_ANONYMOUS)[0]
    positions = torch.cat(sorted((tensors[name] for name in parts), key=lambda one: one.shape[1]), dim=1)
    return {name: one for name, one in tensors.items() if name not in parts} | {
        f"{start}position_embeddings": positions
    }


def _find_prefix(tensors: Mapping[str, Tensor], wanted: Sequence[str]) -> str:
    """What comes before the model's names in the file: the model may be a part of a larger one."""
    prefixes = [name.removesuffix(one) for name in tensors for one in wanted if name.endswith(one)]
    whole = [prefix for prefix in prefixes if not prefix or prefix.endswith(".")]
    return max(dict.fromkeys(whole), key=whole.count, default="")
