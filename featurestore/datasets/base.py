"""The contract of a dataset reader, and nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

from featurestore.samples import SampleTable


class Sample(NamedTuple):
    """One decoded image.

    Attributes:
        image: (H, W) or (H, W, C); uint8, uint16 or float32, in display order (first row on top).
        digest: 16 bytes: BLAKE2b-128 of the encoded image (or of shape, dtype and pixels where nothing is encoded).
    """

    image: NDArray[Any]
    digest: bytes


@runtime_checkable
class ImageDataset(Protocol):
    """Images by row, and a table of what is known of them.

    Reading is lazy and thread-safe: `read` is called from several threads, and no image stays in memory.
    """

    @property
    def table(self) -> SampleTable:
        """Ids, labels, splits, groups, boxes; made without decoding any image."""
        ...

    @property
    def decoder(self) -> str:
        """What turns bytes into pixels: ``pillow``, ``astropy`` or ``array``; part of the FeatureKey."""
        ...

    def __len__(self) -> int: ...

    def read(self, row: int) -> Sample:
        """Decode the image of `row`.

        Raises:
            UnreadableImageError: The image cannot be decoded; the message gives the reason.
        """
        ...
