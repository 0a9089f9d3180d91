"""What advice is drawn from: configurations, what is known of their features, and commands for more."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from featurestore.backbones.catalogue import find_spec
from featurestore.store import default_store_path
from probes.statistics.configurations import Configuration, gather_configurations
from probes.statistics.feature_info import FeatureInfo, count_params, describe_features
from studies.cached_runs import part_outdated, probed_runs, trained_runs

_PUBLISHED = "hub"
"""Source of the weights of most backbones, which need not be named."""

EXAMPLES = ("dinov2-s", "resnet-50")
"""Backbones to begin with, of two kinds."""

if TYPE_CHECKING:
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore


@dataclass(frozen=True)
class Evidence:
    """All that was measured on one label scheme of a dataset.

    Attributes:
        data: What opens the dataset on the command line.
        scheme: Label scheme.
        configurations: Those that were tested on the same rows.
        infos: The stored feature matrices.
        elsewhere: Number of runs that were left out, because they were tested on other rows.
        store: Words by which a command finds the store; empty for the default one.
        outdated: Number of runs that were left out, because labels of their test rows have changed since.
    """

    data: str
    scheme: str
    configurations: tuple[Configuration, ...]
    infos: tuple[FeatureInfo, ...]
    elsewhere: int = 0
    store: tuple[str, ...] = ()
    outdated: int = 0

    def command(self, verb: str, backbone: str, *words: str, variants: Iterable[str] = ()) -> str:
        """A command line for this dataset, with the weights that a stored backbone was used with."""
        chosen = [word for variant in variants for word in ("-p", variant)]
        weights = next((info.weights for info in self.infos if info.backbone == backbone), "")
        chosen += ["--weights", weights] if weights not in ("", _PUBLISHED) else []
        return shlex.join(["skyprobe", verb, self.data, "-b", backbone, *chosen, *words, *self.store])

    def first_command(self) -> str:
        """The command that fits a head on the first of the stored features, or embeds images where there are none."""
        if not self.infos:
            return self.command("extract", EXAMPLES[0])
        first = self.infos[0]
        return self.command("probe", first.backbone, "--labels", self.scheme, variants=[first.variant])

    def probe_command(self, like: Configuration, heads: str, *words: str) -> str:
        """The command that fits heads on the features of a configuration."""
        return self._probe(like, like.first.backbone, like.first.variant, heads, *words)

    def measure_command(self, like: Configuration, backbone: str, variant: str) -> str:
        """The commands that embed by this backbone at this variant, and fit the head of a configuration there."""
        extract = self.command("extract", backbone, variants=[variant])
        return f"{extract} && {self._probe(like, backbone, variant, like.first.head)}"

    def _probe(self, like: Configuration, backbone: str, variant: str, heads: str, *words: str) -> str:
        given = ["--head", heads, "--protocol", like.first.protocol]
        if backbone == like.first.backbone or like.first.pooling in find_spec(backbone).poolings:
            given += ["--pooling", like.first.pooling]
        return self.command("probe", backbone, *given, "--labels", self.scheme, *words, variants=[variant])

    @property
    def omissions(self) -> tuple[str, ...]:
        """What was left out, a sentence for each reason."""
        found = []
        if self.outdated:
            found.append(f"{self.outdated} runs were tested on labels that have changed since, and left out.")
        if self.elsewhere:
            found.append(f"{self.elsewhere} runs were tested on other rows than most, and left out.")
        return tuple(found)

    def find(self, **fields: Any) -> list[Configuration]:
        """Configurations whose runs have these fields."""
        return [one for one in self.configurations if all(getattr(one.first, name) == v for name, v in fields.items())]

    def params(self, backbone: str) -> float:
        """Millions of parameters of a backbone, or of all those that it combines; 0 if one is not known."""
        return count_params(backbone, self.infos)


def gather_evidence(store: FeatureStore, data: str, table: SampleTable, scheme: str) -> Evidence:
    """All that a store holds of one label scheme of a dataset, of probes and of trainings.

    Args:
        store: Where features and runs are.
        data: What the user calls the dataset.
        table: The samples, as the store has them.
        scheme: Label scheme.
    """
    runs = [*probed_runs(store, table, scheme), *trained_runs(store, table, scheme)]
    current, outdated = part_outdated(runs, table, scheme)
    configurations, elsewhere = gather_configurations(current, table)
    infos = tuple(map(describe_features, store.find(table.name)))
    if data in store.datasets():  # the name of a dataset in its store opens no image
        data = store.source(data) or data
    place = () if store.path == default_store_path() else ("--store", store.path)
    return Evidence(data, scheme, configurations, infos, elsewhere, place, len(outdated))
