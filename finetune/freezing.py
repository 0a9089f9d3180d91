"""Which parameters of a backbone are trained: its blocks, found by structure, and what frozen means."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

from featurestore.errors import FinetuneError

_NUMBERED = re.compile(r"(.*?)(\d+)")


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """The blocks that a backbone consists of, from input to output.

    They are the longest part of the network, by parameters, whose members are siblings numbered in a row: ``blocks.0``
    ... of a vision transformer, ``layer1`` ... ``layer4`` of a ResNet, the stages of an EfficientNet, ``layer.0`` ...
    of an encoder. Of nested rows that hold as much, the outer one counts.

    Raises:
        FinetuneError: There is no such row.
    """
    rows = [row for parent in module.modules() for row in _numbered_children(parent)]
    if not rows:
        raise FinetuneError(
            "the model has no row of numbered blocks", where=type(module).__name__, hint="Use mode full, head or lora."
        )
    return max(rows, key=lambda row: sum(map(count_parameters, row)))


def parameter_layers(module: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters by depth: what comes before the first block, then each block with what follows it.

    Returns:
        One list more than there are blocks; each parameter stands in exactly one.
    """
    blocks = find_blocks(module)
    depth_of = {id(parameter): depth for depth, block in enumerate(blocks, 1) for parameter in block.parameters()}
    layers: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    depth = 0
    for parameter in module.parameters():
        depth = depth_of.get(id(parameter), depth)
        layers[depth].append(parameter)
    return layers


def train_only(module: nn.Module) -> None:
    """Training mode for parts that are trained; eval mode for parts with parameters of which none is.

    So the statistics of a frozen batch normalisation stay as they are, and frozen parts drop nothing out.
    """
    module.train()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def count_parameters(module: nn.Module, *, trained: bool = False) -> int:
    """Number of parameters; of those that are trained, if asked for."""
    return sum(one.numel() for one in module.parameters() if one.requires_grad or not trained)


def _numbered_children(parent: nn.Module) -> Iterator[list[nn.Module]]:
    """Rows of two or more children whose names are one word and numbers that rise by one."""
    rows: dict[str, dict[int, nn.Module]] = {}
    for name, child in parent.named_children():
        match = _NUMBERED.fullmatch(name)
        if match and count_parameters(child):
            rows.setdefault(match[1], {})[int(match[2])] = child
    for row in rows.values():
        numbers = sorted(row)
        if len(numbers) > 1 and numbers[-1] - numbers[0] + 1 == len(numbers):
            yield [row[number] for number in numbers]
