"""How much memory there is, and which features fit: into it, and into a probe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from featurestore.errors import ProbeError
from featurestore.store.features import FeatureMatrix, FeatureSet
from featurestore.store.key import DENSE

SHARE = 1 / 8
"""Share of the available memory that a matrix may take: every fit copies and standardises its training rows."""

_CONTROL_GROUPS, _LIMITS = Path("/sys/fs/cgroup"), {"": "memory.max", "memory": "memory/memory.limit_in_bytes"}
"""Where Linux keeps the limits of a job or a container, by the name that version 2 and version 1 list them under."""


def fits_memory(features: Sequence[FeatureMatrix], available: int) -> bool:
    """Whether the values of all of them, as float32, are a small enough share of so many bytes."""
    size = sum(n * d for n, d in (one.shape for one in features))
    return size * np.dtype(np.float32).itemsize <= SHARE * available


def check_vectors(*features: FeatureMatrix) -> None:
    """Refuse dense features: a probe, a projection and a figure need one vector a sample.

    Raises:
        ProbeError: These are the patches of each image.
    """
    for one in features:
        if one.pooling == DENSE:
            raise ProbeError(
                "dense features are not one vector a sample",
                where=f"{one.table.name}, {one.variant}, {one.backbone}",
                hint="Name another pooling by --pooling; dense features are for skyprobe detect --mode stored.",
            )


def in_memory(features: Sequence[FeatureMatrix], who_needs: str) -> list[FeatureSet]:
    """The same features for what cannot read them block by block; who that is begins the message.

    Raises:
        ProbeError: Some stay in the store.
    """
    found = []
    for one in features:
        if one.block_rows is not None:
            n, d = one.shape
            raise ProbeError(
                f"{who_needs} all {n:,} x {d} features in memory, and there is no room for them",
                where=one.table.name,
                hint="Fit the head linear, which reads them from the store block by block, and do not save it; or use "
                "a dataset with fewer rows, or a machine with more memory.",
            )
        found.append(one.read())
    return found


def available_memory() -> int:
    """Bytes that this process may still take: what the system can free, within the limit of its job or container."""
    return min([_system_memory(), *_limits()])


def _system_memory() -> int:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    return int(line.split()[1]) * 1024


def _limits() -> list[int]:
    """Limits of the control groups of this process, and of the groups around them."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:  # not Linux
        return []
    found = []
    for _, controllers, path in (line.split(":", 2) for line in lines):
        for name, file in _LIMITS.items():
            if name in controllers.split(","):
                found += _read_limits(PurePosixPath(path), PurePosixPath(file))
    return found


def _read_limits(group: PurePosixPath, file: PurePosixPath) -> list[int]:
    """The limits of a group and its parents, where they have one and it can be seen from here."""
    places = (_CONTROL_GROUPS / file.parent / place.relative_to("/") / file.name for place in (group, *group.parents))
    texts = [place.read_text(encoding="ascii").strip() for place in places if place.is_file()]
    return [int(text) for text in texts if text.isdigit()]
