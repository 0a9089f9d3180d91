"""Dense features in a store in place of images: heads of a detector are trained without a forward of the backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.errors import FinetuneError
from featurestore.preprocessing import ORIENTATIONS, Preprocessing
from featurestore.store import FeatureStore
from featurestore.store.key import DENSE
from featurestore.store.stored_features import StoredFeatures
from finetune.detection.pyramid import Shapes
from finetune.detection.targets import AnnotatedImage, make_target
from probes.sweep.memory import available_memory

MAP = "last"
"""Name of the only feature map."""

SHARE = 1 / 2
"""Share of the available memory that dense features may take."""


@dataclass(frozen=True)
class DenseViews:
    """Dense features of a dataset at one or several orientations, in memory in their storage type.

    Attributes:
        key: KEY12 of those at orientation 0.
        preprocessings: How the images of each view were preprocessed; the first one has orientation 0.
        values: Of each view float16 or float32 (n, h, w, D).
        rows: Of each view sample id -> row of its values.
        provenance: Where the features come from.
    """

    key: str
    preprocessings: tuple[Preprocessing, ...]
    values: tuple[NDArray[np.floating], ...]
    rows: tuple[Mapping[str, int], ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> Shapes:
        """Channels, height and width of the map of an image."""
        _, height, width, channels = self.values[0].shape
        return {MAP: (channels, height, width)}

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return sum(one.nbytes for one in self.values)


class StoredMaps:
    """Feature maps of annotated images with their targets, in the role of `finetune.detection.targets.DetectionImages`.

    Args:
        views: The dense features.
        annotated: What is in the images.

    Raises:
        FinetuneError: An image has no features.
    """

    def __init__(self, views: DenseViews, annotated: Sequence[AnnotatedImage]) -> None:
        self.views, self.annotated, self.preprocessing = views, annotated, views.preprocessings[0]
        absent = [truth.sample_id for truth in annotated for rows in views.rows if truth.sample_id not in rows]
        if absent:
            raise FinetuneError(
                f"{len(absent)} images have no dense features, {absent[0]} among them",
                where=views.key,
                hint="Extract them again: the dataset has changed.",
            )

    def __len__(self) -> int:
        return len(self.annotated)

    @property
    def n_views(self) -> int:
        """How many views of each image there are."""
        return len(self.views.values)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Map, float32 (D, h, w), and target of a view of an image; ``index`` is ``view * len(self) + image``."""
        view, number = divmod(index, len(self.annotated))
        truth = self.annotated[number]
        values = self.views.values[view][self.views.rows[view][truth.sample_id]]
        grid = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)
        return grid, make_target(truth, self.views.preprocessings[view])

    @property
    def identity(self) -> list[str]:
        """What decides the values, for checkpoints."""
        return [self.views.key, *map(str, self.views.preprocessings)]

    def collate(self, maps: Sequence[Tensor]) -> Mapping[str, Tensor]:
        """What the detector looks at: the maps by name, float32 (B, D, h, w)."""
        return {MAP: torch.stack(list(maps))}


def load_views(
    store: FeatureStore, dataset: str, variant: str, preprocessing: Preprocessing, backbone: str
) -> DenseViews:
    """Every stored view of a dataset under one key, orientation aside.

    Args:
        store: Where they are.
        dataset: Name of the dataset.
        variant: Name of the preprocessing.
        preprocessing: The preprocessing itself, at orientation 0.
        backbone: Name of the backbone.

    Raises:
        MissingFeaturesError: There are none at orientation 0, or some rows are missing; the message gives the command.
        AmbiguousFeaturesError: Several keys match.
        FinetuneError: They do not fit into memory.
    """
    upright = store.select(dataset, variant, backbone, pooling=DENSE)
    found = [(preprocessing, upright.open(DENSE))]
    for orientation in range(1, ORIENTATIONS):
        turned = replace(preprocessing, orientation=orientation)
        candidates = store.find(dataset, str(turned), backbone, pooling=DENSE)
        alike = [one for one in candidates if upright.key.differences(one.key).keys() <= {"preprocessing.orientation"}]
        found += [(turned, one.open(DENSE)) for one in alike]
    _check_memory([stored for _, stored in found], available_memory())
    return DenseViews(
        key=upright.key.short,
        preprocessings=tuple(one for one, _ in found),
        values=tuple(stored.values(dtype=stored.dtype) for _, stored in found),
        rows=tuple({name: row for row, name in enumerate(stored.table.sample_ids)} for _, stored in found),
        provenance=upright.provenance,
    )


def _check_memory(found: Sequence[StoredFeatures], available: int) -> None:
    wanted = sum(int(np.prod(one.shape)) * one.dtype.itemsize for one in found)
    if wanted > SHARE * available:
        raise FinetuneError(
            f"{len(found)} views of the dense features take {wanted / 1e9:.1f} GB of the {available / 1e9:.1f} GB "
            "that are free",
            where=found[0].table.name,
            hint="Use fewer views or a smaller resize, or train on the images: --mode frozen.",
        )
