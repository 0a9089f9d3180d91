"""Which parameters of a backbone are trained: its blocks, found by structure, and what frozen means."""

from __future__ import annotations

from torch import nn

from featurestore.backbones import layers
from featurestore.errors import FinetuneError


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks that a backbone consists of; see `featurestore.backbones.layers.find_blocks`.

    Raises:
        FinetuneError: It has none.
    """
    blocks = layers.find_blocks(module)
    if not blocks:
        raise FinetuneError(
            "the model has no row of numbered blocks", where=type(module).__name__, hint="Use mode full, head or lora."
        )
    return blocks


def parameter_layers(module: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters by depth: what comes before the first block, then each block with what follows it.

    Returns:
        One list more than there are blocks; each parameter is in exactly one.
    """
    blocks = find_blocks(module)
    depth_of = {id(parameter): depth for depth, block in enumerate(blocks, 1) for parameter in block.parameters()}
    by_depth: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    depth = 0
    for parameter in module.parameters():
        depth = depth_of.get(id(parameter), depth)
        by_depth[depth].append(parameter)
    return by_depth


def train_only(module: nn.Module) -> None:
    """Training mode for parts that are trained; eval mode for parts with parameters of which none is.

    So the statistics of a frozen batch normalisation stay as they are, and frozen parts drop nothing out.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def hold_statistics(module: nn.Module) -> None:
    """Eval mode for batch normalisation: it goes on using the statistics of the pretraining, trained or not.

    Statistics of small batches of other images would change what every pretrained layer sees, all at once.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def count_parameters(module: nn.Module, *, trained: bool = False) -> int:
    """Number of parameters; of those that are trained, if asked for."""
    return sum(one.numel() for one in module.parameters() if one.requires_grad or not trained)
