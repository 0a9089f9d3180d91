"""Low-rank adapters, by peft, on vision transformers and on convolutional networks.

Source: Hu et al. 2022, LoRA, ICLR: the change of a weight matrix is a product of two thin ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from torch import nn

from featurestore.backbones.weights import seeded
from featurestore.errors import FinetuneError, MissingDependencyError
from finetune.freezing import find_blocks

_ATTENTION = re.compile(r"(qkv|q_proj|k_proj|v_proj|query|key|value|q|k|v)")
"""Names of the projections to queries, keys and values in timm, transformers and open_clip."""


def find_targets(module: nn.Module) -> dict[str, nn.Module]:
    """The layers of a backbone's blocks that get adapters, by name.

    In a transformer the linear layers to queries, keys and values. Else all linear layers and all convolutions that
    are not grouped: those of a ResNet, the pointwise ones of an EfficientNet.

    Raises:
        FinetuneError: There are none; or for some of them an adapter would be another function than the change of the
            weights that it is merged into.
    """
    inside = {id(part) for block in find_blocks(module) for part in block.modules()}
    hidden = {id(part) for one in module.modules() if isinstance(one, nn.MultiheadAttention) for part in one.modules()}
    parts = {name: part for name, part in module.named_modules() if id(part) in inside - hidden}
    linear = {name: part for name, part in parts.items() if isinstance(part, nn.Linear)}
    attention = {name: part for name, part in linear.items() if _ATTENTION.fullmatch(name.rpartition(".")[2])}
    convolutions = {name: part for name, part in parts.items() if isinstance(part, nn.Conv2d) and part.groups == 1}
    found: dict[str, nn.Module] = {**attention} or {**linear, **convolutions}
    if not found:
        raise FinetuneError(
            "the model has no layer that takes an adapter", where=type(module).__name__, hint="Use mode full or top:N."
        )
    _check_exact(found)
    return found


def _check_exact(targets: Mapping[str, nn.Module]) -> None:
    """Refuse layers that do more with their weights than an adapter beside them can follow."""
    from timm.layers import Conv2dSame, Linear

    plain = (nn.Linear, nn.Conv2d, Linear, Conv2dSame)
    odd = {name: _oddity(one) or type(one).__name__ for name, one in targets.items() if type(one) not in plain}
    odd |= {name: oddity for name, one in targets.items() if (oddity := _oddity(one))}
    if odd:
        name, kind = next(iter(odd.items()))
        raise FinetuneError(
            f"{len(odd)} of {len(targets)} layers take no adapter that could be merged exactly, such as a {kind}",
            where=name,
            hint="Use mode full or top:N.",
        )


def _oddity(layer: nn.Module) -> str:
    """What peft leaves out when it makes the adapter of a convolution; empty for nothing."""
    if not isinstance(layer, nn.Conv2d):
        return ""
    if set(layer.dilation) != {1}:
        return "dilated convolution"
    return "" if layer.padding_mode == "zeros" else f"convolution with {layer.padding_mode} padding"


def choose_rank(targets: dict[str, nn.Module], n_others: int, n_all: int, rank: int, share: float) -> int:
    """The rank, halved until what is trained is less than a share of all parameters.

    Args:
        targets: The layers that get adapters.
        n_others: Parameters that are trained besides: those of the head.
        n_all: All parameters without the adapters.
        rank: The rank to begin with.
        share: In (0, 1].

    Raises:
        FinetuneError: Even rank 1 trains too many.
    """
    per_rank = sum(map(_parameters_per_rank, targets.values()))
    while (n_others + rank * per_rank) / (n_all + rank * per_rank) >= share:
        if rank == 1:
            raise FinetuneError(
                f"adapters of rank 1 train {share:.0%} of the parameters or more",
                where="lora",
                hint="Use a larger backbone, mode top:N, or a larger lora_share.",
            )
        rank //= 2
    return rank


def add_adapters(module: nn.Module, rank: int, alpha: float, seed: int) -> nn.Module:
    """The module with trainable adapters, wrapped; its own parameters are frozen. Adapters start without effect.

    Args:
        module: A backbone; changed in place.
        rank: Rank of every adapter.
        alpha: The adapters are scaled by alpha / rank.
        seed: Seed of their initial weights.

    Raises:
        MissingDependencyError: peft is not installed.
    """
    if not find_spec("peft"):
        raise MissingDependencyError(
            "LoRA needs peft", where="lora", hint="Install it: pip install 'skyprobe[finetune]'."
        )
    from peft import LoraConfig, get_peft_model

    names = "|".join(map(re.escape, find_targets(module)))  # of a list, peft would take every name that ends alike
    config: Any = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, bias="none")
    with seeded(seed):
        adapted: nn.Module = get_peft_model(module, config)
    return adapted


def check_used(adapted: nn.Module, run: Callable[[], object]) -> None:
    """Refuse a model that reads the weights of a layer and passes its adapter by.

    Args:
        adapted: What `add_adapters` returned.
        run: Runs the model once.

    Raises:
        FinetuneError: Some adapters do not run.
    """
    adapters = {name: layer for name, layer in adapted.named_modules() if _is_adapter(layer)}
    used: set[str] = set()
    hooks = [layer.register_forward_hook(lambda *_, name=name: used.add(name)) for name, layer in adapters.items()]
    run()
    for hook in hooks:
        hook.remove()
    unused = [name for name in adapters if name not in used]
    if unused:
        raise FinetuneError(
            f"the model passes {len(unused)} of {len(adapters)} adapters by, and reads the weights itself",
            where=unused[0].removeprefix("base_model.model."),
            hint="Use mode full or top:N.",
        )


def merge_adapters(adapted: Any) -> nn.Module:
    """The module itself, with what the adapters learnt added to its weights: the same function without adapters."""
    module: nn.Module = adapted.get_base_model()
    adapters: dict[str, Any] = {name: layer for name, layer in module.named_modules() if _is_adapter(layer)}
    for name, layer in adapters.items():  # peft's own way stumbles over networks with a part of that name, such as DLA
        layer.merge()
        module.set_submodule(name, layer.base_layer)
    return module


def _is_adapter(layer: nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(layer, BaseTunerLayer)


def adapter_parameters(adapted: nn.Module) -> list[nn.Parameter]:
    """The parameters of the adapters."""
    return [parameter for name, parameter in adapted.named_parameters() if "lora_" in name]


def _parameters_per_rank(layer: nn.Module) -> int:
    """Of an adapter: a column of one thin matrix and a row of the other; a convolution's first one keeps its kernel."""
    weight = layer.get_parameter("weight")
    return len(weight) + weight[0].numel()
