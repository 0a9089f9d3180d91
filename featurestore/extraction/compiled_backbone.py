"""CompiledBackbone: a backbone, loaded and compiled for one input size, ready to embed batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.extraction.embedding import Task
from featurestore.extraction.requests import ExtractionOptions, ExtractionRequest

if TYPE_CHECKING:
    from featurestore.backbones.base import Backbone
    from featurestore.backbones.engines.base import Forward
    from featurestore.preprocessing import Preprocessing


@dataclass(frozen=True)
class CompiledBackbone:
    """A backbone, loaded, and compiled for one input size.

    Attributes:
        backbone: The loaded backbone.
        forward: Its compiled pass, which may serve several layers.
        outputs: Pooling -> its name among the outputs of `forward`.
    """

    backbone: Backbone
    forward: Forward
    outputs: Mapping[str, str]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Pooling -> shape of one image's features."""
        return {pooling: self.forward.shapes[output] for pooling, output in self.outputs.items()}

    def task(self, preprocessing: Preprocessing, slots: NDArray[np.int64]) -> Task:
        """What to make of one batch; see `featurestore.extraction.embedding.Task`."""
        return Task(preprocessing, self.forward, slots, self.outputs)


def compile_backbones(
    requests: Sequence[ExtractionRequest], options: ExtractionOptions, decoder: str
) -> dict[ExtractionRequest, CompiledBackbone]:
    """Load and compile; variants of one input size share a model, and layers of one backbone a pass.

    Args:
        requests: What to extract.
        options: See the extraction.
        decoder: Of the dataset: pixels of all but FITS are expected to be 8-bit, where nothing stretches them.
    """
    from featurestore.backbones.engines.base import compile_forward
    from featurestore.backbones.loading import load_backbone

    networks: dict[tuple[str, int, int], list[ExtractionRequest]] = {}
    for one in requests:
        networks.setdefault(one.network, []).append(one)
    models: dict[ExtractionRequest, CompiledBackbone] = {}
    for (name, size, n_channels), members in networks.items():
        first = members[0]
        backbone = load_backbone(name, first.weights, size, options.trust_remote_code, n_channels)
        outputs = list(dict.fromkeys(output for one in members for output in one.outputs.values()))
        batch_size, workers = options.batch_size_on(first.runtime.device), options.worker_count
        eight_bit = decoder != "astropy" and all(one.preprocessing.keeps_bytes for one in members)
        forward = compile_forward(backbone, outputs, first.runtime, batch_size, size, workers, eight_bit=eight_bit)
        models |= {one: CompiledBackbone(replace(backbone, spec=one.spec), forward, one.outputs) for one in members}
    return {one: models[one] for one in requests}
