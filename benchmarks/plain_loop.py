"""The loop that people write: a DataLoader, a torch model, an optimiser, one head at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Sampler, TensorDataset

from benchmarks.row import seconds
from featurestore.store.features import FeatureSet
from probes.heads.base import weigh_classes
from probes.solvers.network import initialise
from probes.sweep.tasks import Task

BATCH_SIZE = 64


class Shuffled(Sampler[int]):
    """What ``shuffle=True`` does, with an order that can be drawn twice."""

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        self.n = n
        self.rng = rng

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        yield from self.rng.permutation(self.n).tolist()


class PlainHead:
    """A head of a sweep, for the plain loop: standardised rows, and the initial weights and batch order of ours.

    Args:
        features: Features with labels.
        task: The head; its seed and parameters are followed.
        hidden: Widths of hidden layers.
    """

    def __init__(self, features: FeatureSet, task: Task, hidden: Sequence[int] = ()) -> None:
        labels = features.table.labels[task.scheme]
        self.scaler = StandardScaler().fit(features.values[task.train])
        X, self.y_test = self.scaler.transform(features.values[task.train]), labels[task.test]
        self.X_test = torch.from_numpy(self.scaler.transform(features.values[task.test]))
        self.data = TensorDataset(torch.from_numpy(X), torch.from_numpy(labels[task.train]))
        head = task.build()
        self.params = head.get_params()
        classes = np.unique(labels[task.train])
        weighing = self.params.get("class_weight", "balanced")
        self.class_weights = torch.from_numpy(weigh_classes(weighing, classes, labels[task.train]))
        self.widths = [X.shape[1], *hidden, len(classes)]

    def train(self, epochs: int) -> torch.nn.Sequential:
        """Train for some epochs; the time that this takes is what is measured."""
        rng = np.random.default_rng(self.params["random_state"])
        model = _make_model(self.widths, rng)
        loader = DataLoader(self.data, batch_size=BATCH_SIZE, sampler=Shuffled(len(self.data), rng))
        optimiser = torch.optim.SGD(model.parameters(), lr=self.params["learning_rate"])
        criterion = torch.nn.CrossEntropyLoss(weight=self.class_weights)
        for _ in range(epochs):
            for X, y in loader:
                optimiser.zero_grad()
                criterion(model(X), y).backward()
                optimiser.step()
        return model

    def macro_f1(self, model: torch.nn.Module) -> float:
        """Macro-F1 on the test rows."""
        with torch.no_grad():
            predicted = model(self.X_test).argmax(dim=1).numpy()
        return float(f1_score(self.y_test, predicted, average="macro"))


def compare_head(features: FeatureSet, task: Task, hidden: Sequence[int] = ()) -> str:
    """Train one head in full both ways, and say how far apart they end; for the note of a row."""
    plain, ours = PlainHead(features, task, hidden), task.build()
    labels = features.table.labels[task.scheme]
    ours.fit(features.values[task.train], labels[task.train])
    model = plain.train(plain.params["epochs"])
    learnt = ours.to_arrays()
    first = "hidden_coef_" if hidden else "coef_"
    theirs = dict(zip(dict.fromkeys([first, "coef_"]), _weights(model), strict=True))
    scale = {first: plain.scaler.scale_}
    gap = max(np.abs(learnt[name] * scale.get(name, 1) - weights).max() for name, weights in theirs.items())
    f1 = f1_score(plain.y_test, ours.predict_proba(features.values[task.test]).argmax(axis=1), average="macro")
    scores = f"F1 {f1:.4f} and {plain.macro_f1(model):.4f}"
    return f"a {task.fraction} % head in full both ways: weights within {gap:.0e}, {scores}"


def choose_threads(head: PlainHead) -> int:
    """Set torch to the better of one thread and all, by an epoch of this head."""
    times = {}
    for n_threads in (1, torch.get_num_threads()):
        torch.set_num_threads(n_threads)
        head.train(1)
        times[n_threads] = seconds(lambda: head.train(1))
    best = min(times, key=lambda n_threads: times[n_threads])
    torch.set_num_threads(best)
    return best


def _make_model(widths: Sequence[int], rng: np.random.Generator) -> torch.nn.Sequential:
    model = torch.nn.Sequential()
    for weights, biases in initialise(widths, rng):
        linear = torch.nn.Linear(weights.shape[1], weights.shape[0])
        linear.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(biases)})
        model.extend([linear, torch.nn.ReLU()])
    return model[:-1]


def _weights(model: torch.nn.Sequential) -> list[NDArray[np.float32]]:
    return [layer.weight.detach().numpy() for layer in model if isinstance(layer, torch.nn.Linear)]
