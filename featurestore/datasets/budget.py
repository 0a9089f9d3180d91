"""The budget of one image: how much memory it may take, checked from its header before anything is decoded.

A file of a few kilobytes can announce billions of pixels, and several images are decoded at a time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from featurestore.datasets.boundary import unreadable
from featurestore.errors import UsageError

DEFAULT_MIB = 256
VARIABLE = "SKYPROBE_MAX_IMAGE_MIB"
"""Environment variable that sets another budget, in MiB."""


def image_budget() -> int:
    """Bytes that the pixels of one image may take once they are decoded: 256 MiB, or what `VARIABLE` says.

    Raises:
        UsageError: The variable is not a positive whole number.
    """
    text = os.environ.get(VARIABLE, "").strip() or str(DEFAULT_MIB)
    if not (text.isascii() and text.isdecimal() and 0 < int(text) < 1 << 30):
        raise UsageError(
            f"{text!r} is not a number of MiB", where=VARIABLE, hint=f"Give a whole number, such as {DEFAULT_MIB}."
        )
    return int(text) << 20


def file_budget() -> int:
    """Bytes that may be read of one image file: twice the budget of its pixels, since a file holds other things too."""
    return 2 * image_budget()


def check_size(shape: Sequence[int], itemsize: int, where: object) -> None:
    """Refuse an image without pixels, or with more than the budget allows.

    Args:
        shape: Lengths of all axes.
        itemsize: Bytes that one value takes while the image is decoded.
        where: Path or name, for messages.

    Raises:
        UnreadableImageError: The message gives the shape and the limit.
    """
    text = " x ".join(str(length) for length in shape)
    if min(shape, default=0) < 1:
        raise unreadable(f"the image has no pixels, its shape is {text or 'empty'}", where)
    if math.prod(shape) * itemsize > image_budget():
        raise unreadable(f"the image is too large: {text} values of {itemsize} bytes {_limit(image_budget())}", where)


def check_bytes(n_bytes: int, where: object) -> None:
    """Refuse a file, or what is decompressed of it, that is larger than `file_budget`.

    Raises:
        UnreadableImageError: The message gives the limit.
    """
    if n_bytes > file_budget():
        raise unreadable(f"the file is too large: its bytes {_limit(file_budget())}", where)


def _limit(n_bytes: int) -> str:
    return f"exceed the limit of {n_bytes >> 20} MiB (the environment variable {VARIABLE} sets another budget)"
