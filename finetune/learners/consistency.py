"""Learning from labels and from images without one: FixMatch.

Source: Sohn et al. 2020, FixMatch, NeurIPS, equations 3 and 4. The class that a weakly augmented image is given with a
probability above the threshold is what its strongly augmented copy has to be given. Unlike there, the strong
augmentation changes no colours, since fluxes are physical, and predictions are those of the weights themselves, not
of their moving average.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from finetune.data.augmentation import augment
from finetune.data.images import to_device
from finetune.learners.supervision import Indices, SupervisedLearner
from finetune.options import ConsistencyOptions
from finetune.trainer import device_of


class ConsistencyLearner(SupervisedLearner):
    """A classifier that learns its training rows, and to be consistent on unlabelled ones.

    Args:
        consistency: Ratio, threshold and weight.
        **supervised: See `SupervisedLearner`; its `rows` have unlabelled ones.
    """

    def __init__(self, consistency: ConsistencyOptions, **supervised: Any) -> None:
        super().__init__(**supervised)
        self.consistency = consistency

    def batches(self, rng: np.random.Generator) -> Sequence[Any]:
        """Training rows, each batch with `ratio` times as many unlabelled ones; these start over when all were used."""
        labelled = super().batches(rng)
        sizes = [self.consistency.ratio * len(batch) for batch in labelled]
        unlabelled = _repeat_shuffled(self.rows.unlabelled, sum(sizes), rng)
        return list(zip(labelled, np.split(unlabelled, np.cumsum(sizes)[:-1]), strict=True))

    def load(self, batch: Any) -> Any:
        """Pixels and columns of the labelled rows, and pixels of the others."""
        labelled, unlabelled = batch
        return *super().load(labelled), self.read(unlabelled)

    def losses(self, loaded: Any) -> Mapping[str, Tensor]:
        """Cross-entropy of the labels, and that of the believed pseudo-labels over all unlabelled images."""
        pixels, columns, unlabelled = loaded
        device = device_of(self.module)
        pixels, unlabelled = to_device(pixels, device), to_device(unlabelled, device)
        how = self.consistency
        with torch.no_grad():
            confidence, guessed = self.module(augment(unlabelled, how.weak)).float().softmax(dim=1).max(dim=1)
        logits = self.module(torch.cat([augment(pixels, self.augmentation), augment(unlabelled, how.strong)]))
        each = cross_entropy(logits[len(pixels) :].float(), guessed, reduction="none")
        believed = confidence >= how.threshold
        return {
            "supervised": self.cross_entropy(logits[: len(pixels)], columns),
            "consistency": how.weight * (each * believed).mean(),
        }


def _repeat_shuffled(rows: Indices, n: int, rng: np.random.Generator) -> Indices:
    """`n` of the rows: all of them in random order, again and again."""
    return np.concatenate([rng.permutation(rows) for _ in range(-(-n // len(rows)))])[:n]
