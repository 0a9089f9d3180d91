"""Whether an image is still the one that was embedded: its content, where the fingerprint of its file cannot tell.

A fingerprint changes whenever a file is written, copied or restored, and costs no reading. That it changed does not say
that the image did; whoever asks for checksums does not trust that it did not.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnreadableImageError
from featurestore.extraction.embedding import content_digest

if TYPE_CHECKING:
    from featurestore.datasets.base import ImageDataset
    from featurestore.extraction.requests import ExtractionRequest
    from featurestore.store.entry import FeatureEntry

Mask = NDArray[np.bool_]


class Compared(NamedTuple):
    """Samples whose content was compared with what was embedded, bool (n,) each.

    Attributes:
        same: The fingerprint is another, the content is not.
        changed: The content is another.
    """

    same: Mask
    changed: Mask


class Contents:
    """Contents of the images of a dataset, each of which is read at most once.

    Args:
        dataset: The images.
        workers: Threads that read.
    """

    def __init__(self, dataset: ImageDataset, workers: int) -> None:
        self._dataset, self._workers = dataset, workers
        self._digests: dict[int, bytes] = {}

    @property
    def n_read(self) -> int:
        """Images that were read."""
        return len(self._digests)

    def compare(
        self,
        entry: FeatureEntry,
        request: ExtractionRequest,
        rows: NDArray[np.int64],
        fingerprints: NDArray[np.uint64],
        *,
        every: bool = False,
    ) -> Compared:
        """Compare the samples whose features are there, but whose fingerprint is another.

        Args:
            entry: Where the features are.
            request: What was asked for: its poolings, and whether its pixels depend on boxes.
            rows: int64 (n,), store row of each sample; -1 for samples that the store does not know.
            fingerprints: uint64 (n,), current fingerprints of the samples.
            every: Whether samples with the same fingerprint are compared as well.
        """
        stored = entry.origins(request.poolings, int(rows.max(initial=-1)) + 1)
        asked = np.zeros(len(rows), dtype=bool)
        known = np.flatnonzero(rows >= 0)
        own = rows[known]
        asked[known] = stored.done[own] & (every | (stored.fingerprints[own] != fingerprints[known]))
        samples = np.flatnonzero(asked)
        self._read(samples)
        equal = np.zeros(len(rows), dtype=bool)
        for sample in samples.tolist():
            equal[sample] = self._content(sample, request) == stored.content[rows[sample]].tobytes()
        return Compared(same=equal, changed=asked & ~equal)

    def _read(self, samples: NDArray[np.int64]) -> None:
        def digest(sample: int) -> bytes:
            try:
                return self._dataset.read(sample).digest
            except UnreadableImageError:
                return b""  # no content is

        fresh = [sample for sample in samples.tolist() if sample not in self._digests]
        with ThreadPoolExecutor(self._workers) as pool:
            self._digests |= zip(fresh, pool.map(digest, fresh), strict=True)

    def _content(self, sample: int, request: ExtractionRequest) -> bytes:
        boxes = self._dataset.table.boxes if request.preprocessing.uses_boxes else None
        digest = self._digests[sample]
        return digest if boxes is None else content_digest(digest, boxes.of(sample))
