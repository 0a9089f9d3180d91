"""Results of detectors, cached in the store: what was found, and what there was to find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finetune.detection.results import DetectionRun
from finetune.detection.targets import AnnotatedImage, Detections

if TYPE_CHECKING:
    from featurestore.samples import SampleTable
    from featurestore.store import FeatureStore

DETECTED = "detected"
"""Kind of these entries in a store."""

_PLAIN = (
    *("dataset", "variant", "backbone", "mode", "view", "fraction", "seed", "n_train", "threshold", "key", "params"),
    *("seconds", "split", "method"),
)

Arrays = Mapping[str, NDArray[Any]]


def save_run(store: FeatureStore, identity: str, run: DetectionRun, table: SampleTable) -> None:
    """Save a run under the digest of what decided it.

    Args:
        store: A store opened for writing; it gets to know the dataset too.
        identity: Digest of everything that decides the numbers.
        run: The run.
        table: All samples of its dataset.
    """
    store.put_dataset(table)
    attributes = {name: getattr(run, name) for name in _PLAIN} | {
        "classes": list(run.classes),
        "sample_ids": [truth.sample_id for truth in run.images],
    }
    store.put_cached(DETECTED, identity, {**_pack_images(run.images), **_pack_found(run.detections)}, attributes)


def cached_run(store: FeatureStore, identity: str) -> DetectionRun | None:
    """The run of that digest; None if there is none."""
    entry = store.get_cached(DETECTED, identity)
    if entry is None:
        return None
    fields: dict[str, Any] = dict(entry.attributes)
    ids = fields.pop("sample_ids")
    fields["classes"] = tuple(fields["classes"])
    return DetectionRun(**fields, images=_unpack_images(entry.arrays, ids), detections=_found(entry.arrays))


def cached_runs(store: FeatureStore, datasets: Sequence[str]) -> list[DetectionRun]:
    """All cached runs on these datasets, by view, backbone, mode, fraction and seed."""
    found = [cached_run(store, identity) for identity in store.list_cached(DETECTED)]
    chosen = [run for run in found if run and run.dataset in datasets]
    order = ("dataset", "view", "variant", "backbone", "mode", "fraction", "seed")
    return sorted(chosen, key=lambda run: tuple(getattr(run, name) for name in order))


# Arrays of images begin with "scene_": so they are named in stores that exist.


def _pack_images(annotated: Sequence[AnnotatedImage]) -> Arrays:
    parts = {name: [getattr(truth, name) for truth in annotated] for name in ("boxes", "labels", "crowd", "flux")}
    return {
        "scene_row": np.array([truth.row for truth in annotated], dtype=np.int64),
        "scene_size": np.array([truth.size for truth in annotated], dtype=np.int64).reshape(-1, 2),
        "scene_count": np.array([len(truth.labels) for truth in annotated], dtype=np.int64),
        **{f"scene_{name}": np.concatenate(values) for name, values in parts.items()},
    }


def _pack_found(detections: Sequence[Detections]) -> Arrays:
    parts = {name: [getattr(one, name) for one in detections] for name in ("boxes", "labels", "scores")}
    return {
        "found_count": np.array([len(one.labels) for one in detections], dtype=np.int64),
        **{f"found_{name}": np.concatenate(values) for name, values in parts.items()},
    }


def _unpack_images(arrays: Arrays, ids: Sequence[str]) -> tuple[AnnotatedImage, ...]:
    parts = _divide(arrays, "scene", ("boxes", "labels", "crowd", "flux"))
    places = zip(arrays["scene_row"].tolist(), ids, arrays["scene_size"].tolist(), parts, strict=True)
    return tuple(AnnotatedImage(row, name, (size[0], size[1]), **part) for row, name, size, part in places)


def _found(arrays: Arrays) -> tuple[Detections, ...]:
    return tuple(Detections(**part) for part in _divide(arrays, "found", ("boxes", "labels", "scores")))


def _divide(arrays: Arrays, kind: str, names: Sequence[str]) -> list[dict[str, NDArray[Any]]]:
    """The arrays of each image, out of those of all."""
    ends = np.cumsum(arrays[f"{kind}_count"])[:-1]
    columns = [np.split(arrays[f"{kind}_{name}"], ends) for name in names]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
