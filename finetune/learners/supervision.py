"""Learning from labels: cross-entropy on augmented images, stopped on macro-F1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from finetune.data.augmentation import augment
from finetune.data.images import Images, to_device
from finetune.data.rows import TrainingRows
from finetune.models.classifier import Classifier
from finetune.options import Augmentation
from finetune.trainer import Stage, device_of, shuffle_rows
from probes.heads.base import weigh_classes
from probes.results.scores import macro_scores

Indices = NDArray[np.int64]


class SupervisedLearner:
    """A classifier that learns the labels of its training rows; see `finetune.trainer.Learner`.

    Args:
        classifier: What is trained.
        stages: What of it, and when.
        images: Images of all rows.
        rows: Their use.
        labels: int64 (n,), label of each image.
        batch_size: Labelled images a batch.
        balanced: Whether classes weigh the same in the loss, else images do.
        augmentation: What training images go through.

    Attributes:
        classes: int64, sorted labels of the training rows; the columns of the logits.
    """

    def __init__(
        self,
        classifier: Classifier,
        stages: Sequence[Stage],
        images: Images,
        rows: TrainingRows,
        labels: Indices,
        *,
        batch_size: int,
        balanced: bool,
        augmentation: Augmentation,
    ) -> None:
        self.module, self.stages = classifier, stages
        self.images, self.rows, self.labels = images, rows, labels
        self.batch_size, self.augmentation = batch_size, augmentation
        self.classes = np.unique(labels[rows.train])
        columns = np.searchsorted(self.classes, labels[rows.train])
        self.weights = torch.from_numpy(weigh_classes("balanced" if balanced else None, self.classes, columns))

    def batches(self, rng: np.random.Generator) -> Sequence[Any]:
        """Training rows in random order."""
        return [self.rows.train[part] for part in shuffle_rows(len(self.rows.train), self.batch_size, rng)]

    def load(self, batch: Any) -> Any:
        """Pixels, and the columns of their labels."""
        return self.read(batch), torch.from_numpy(np.searchsorted(self.classes, self.labels[batch]))

    def read(self, rows: Indices) -> Tensor:
        """Images of rows, for `to_device`."""
        return self.images.batch(rows, pinned=uses_pinned_memory(device_of(self.module)))

    def losses(self, loaded: Any) -> Mapping[str, Tensor]:
        """Cross-entropy of augmented images."""
        pixels, columns = loaded
        logits = self.module(augment(to_device(pixels, device_of(self.module)), self.augmentation))
        return {"supervised": self.cross_entropy(logits, columns)}

    def cross_entropy(self, logits: Tensor, columns: Tensor) -> Tensor:
        """Mean over a batch, with the weights of the classes."""
        return cross_entropy(logits.float(), columns.to(logits.device), self.weights.to(logits.device))

    def score(self) -> float:
        """Macro-F1 of the validation rows; NaN without any."""
        if not len(self.rows.valid):
            return float("nan")
        n_classes = len(self.classes)
        predicted = predict(self.module, self.images, self.rows.valid, self.batch_size).argmax(axis=1)
        cells = np.searchsorted(self.classes, self.labels[self.rows.valid]) * n_classes + predicted
        counts = np.bincount(cells, minlength=n_classes**2).reshape(1, n_classes, n_classes)
        return float(macro_scores(counts.astype(np.float64))[0])


@torch.no_grad()
def predict(classifier: Classifier, images: Images, rows: Indices, batch_size: int) -> NDArray[np.float32]:
    """Probabilities (len(rows), n_outputs) of a classifier in eval mode."""
    logits = [classifier(pixels) for pixels in pixel_batches(images, rows, batch_size, device_of(classifier))]
    return np.asarray(torch.cat(logits).softmax(dim=1).cpu().numpy(), dtype=np.float32)


def pixel_batches(images: Images, rows: Indices, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """The pixels of rows in their order, batch by batch."""
    for start in range(0, len(rows), batch_size):
        pinned = uses_pinned_memory(device)
        yield to_device(images.batch(rows[start : start + batch_size], pinned=pinned), device)


def uses_pinned_memory(device: torch.device) -> bool:
    """Whether a device copies from pinned memory by itself."""
    return device.type not in ("cpu", "mps")
