"""Tiles of a compressed FITS image, measured before astropy inflates them whole."""

from __future__ import annotations

import zlib
from typing import Any

from featurestore.datasets.boundary import unreadable
from featurestore.datasets.budget import image_budget
from featurestore.datasets.decoding.quiet import ignored_warnings

_LARGEST_RATIO = 1032
"""Bytes that deflate can make of one (zlib's technical notes)."""

_GZIP = 31
"""``wbits`` of `zlib.decompressobj` for gzip."""

_STEP = 1 << 20


def check_tiles(hdu: Any, file: Any, where: str) -> None:
    """Refuse a gzip tile that holds more than the budget of an image; others have the size that the header states.

    Args:
        hdu: An image HDU of astropy; one that is not compressed has no tiles.
        file: The file that it lies in.
        where: Path or name, for messages.

    Raises:
        UnreadableImageError: The message gives the reason.
        zlib.error: A tile is damaged.
    """
    kind, place = getattr(hdu, "compression_type", None), hdu.fileinfo()
    if kind is None or place["datSpan"] * _LARGEST_RATIO <= image_budget():
        return
    table = _as_table(file, place["hdrLoc"])
    known = ["GZIP_COMPRESSED_DATA", *(["COMPRESSED_DATA"] if kind.startswith("GZIP") else [])]
    for name in set(known).intersection(table.columns.names):
        for tile in table.data.field(name):
            if tile.nbytes * _LARGEST_RATIO > image_budget() and _is_larger(tile.tobytes(), image_budget()):
                raise unreadable("a compressed tile holds more than the budget of an image", where)


def _as_table(file: Any, start: int) -> Any:
    """The HDU whose header starts there, as the table that it is in the file."""
    from astropy.io import fits

    file.seek(0)
    with ignored_warnings():
        hdus = fits.open(file, mode="readonly", memmap=False, disable_image_compression=True)
        return next(one for one in hdus if one.fileinfo()["hdrLoc"] == start)


def _is_larger(tile: bytes, limit: int) -> bool:
    stream, size = zlib.decompressobj(_GZIP), 0
    while tile and size <= limit:
        size += len(stream.decompress(tile, _STEP))
        tile = stream.unconsumed_tail
    return size > limit
