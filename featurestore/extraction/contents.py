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
        pending: Mask,
        every: bool = False,
    ) -> Compared:
        """Compare the samples whose features are there, but whose fingerprint is another.

        Args:
            entry: Where the features are.
            request: What was asked for: its poolings, and whether its pixels depend on boxes.
            rows: int64 (n,), store row of each sample; -1 for samples that the store does not know.
            fingerprints: uint64 (n,), current fingerprints of the samples.
            pending: bool (n,), samples that seem to be to embed: nothing is read of others.
            every: Whether samples with the same fingerprint are compared as well.
        """
        known = np.flatnonzero((rows >= 0) & (pending | every))
        known = known[np.argsort(rows[known], kind="stable")]
        stored = entry.origins(request.poolings, rows[known])
        chosen = np.flatnonzero(stored.done & (every | (stored.fingerprints != fingerprints[known])))
        samples = known[chosen]
        self._read(samples)
        asked, equal = np.zeros((2, len(rows)), dtype=bool)
        asked[samples] = True
        for place, sample in zip(chosen.tolist(), samples.tolist(), strict=True):
            equal[sample] = self._content(sample, request) == stored.content[place].tobytes()
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
