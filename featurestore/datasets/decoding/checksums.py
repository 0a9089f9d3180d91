"""CHECKSUM and DATASUM, by which a FITS file says itself whether it is damaged (FITS standard 4.0, appendix J)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from featurestore.datasets.boundary import unreadable
from featurestore.datasets.decoding.quiet import ignored_warnings

_ALL_ONES = 0xFFFF_FFFF
_STEP = 1 << 24
"""Bytes that are read at a time, a multiple of a word."""

_LENGTH = 16
"""Characters of a CHECKSUM; what is longer or shorter is a keyword of some other convention."""


class _File(Protocol):
    def read(self, size: int = -1) -> bytes: ...

    @property
    def seek(self) -> Any: ...


def check_sums(file: _File, place: Mapping[str, int], where: str) -> None:
    """Compare one HDU with the checksums in its header, where it has any.

    Args:
        file: The file, uncompressed.
        place: Offsets ``hdrLoc`` and ``datLoc`` of header and data, and the length ``datSpan`` of the data.
        where: Path or name, for messages.

    Raises:
        UnreadableImageError: A checksum does not match.
    """
    file.seek(place["hdrLoc"])
    header = file.read(place["datLoc"] - place["hdrLoc"])
    datasum, checksum = _value(header, "DATASUM"), _value(header, "CHECKSUM")
    if not datasum and len(checksum) != _LENGTH:
        return
    found = _sum_next(file, place["datSpan"])
    if datasum and not (datasum.isdecimal() and int(datasum) == found):
        raise unreadable("the pixels are damaged: their sum is not the DATASUM of the header", where)
    if len(checksum) == _LENGTH and _fold(_sum(header) + found) not in (0, _ALL_ONES):
        raise unreadable("header or pixels were changed: they do not fit the CHECKSUM of the header", where)


def _value(header: bytes, name: str) -> str:
    """Value of a card as text; empty where there is none."""
    card = next((header[at : at + 80] for at in range(0, len(header), 80) if header[at:].startswith(_key(name))), b"")
    if not card:
        return ""
    from astropy.io.fits import Card

    with ignored_warnings():
        return str(Card.fromstring(card).value).strip()


def _key(name: str) -> bytes:
    return name.ljust(8).encode() + b"="


def _sum(data: bytes) -> int:
    """The sum of all 32-bit words, big-endian, in ones' complement: what overflows is added at the other end."""
    words = np.frombuffer(data.ljust(-(-len(data) // 4) * 4, b"\0"), ">u4")
    return _fold(int(words.sum(dtype=np.uint64)))


def _sum_next(file: _File, size: int) -> int:
    """The sum of the next bytes of a file, of which there may be more than memory holds."""
    total = 0
    while size > 0 and (part := file.read(min(size, _STEP))):
        total, size = _fold(total + _sum(part)), size - len(part)
    return total


def _fold(total: int) -> int:
    while total > _ALL_ONES:
        total = (total & _ALL_ONES) + (total >> 32)
    return total
