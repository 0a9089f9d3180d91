"""The boundary of a reader: whatever a parser raises becomes the project's own error, with its place and reason.

Parsers of bytes from elsewhere fail in ways that none of them documents: `zipfile.BadZipFile` and `tokenize.TokenError`
inside `numpy.load`, `RecursionError` inside `json`, `MemoryError` and `SystemError` almost anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from featurestore.errors import DatasetError, SkyprobeError, UnreadableImageError

_LONGEST_REASON = 300
_SAID_BETTER = {
    MemoryError: "there is not enough memory for it",
    RecursionError: "it is nested too deeply",
    EOFError: "it ends too early",
}


@contextmanager
def reading(where: object, what: str, *, hint: str, error: type[SkyprobeError] = DatasetError) -> Iterator[None]:
    """Turn any exception of the block into `error`; those of skyprobe pass as they are.

    Args:
        where: The path or name that is read.
        what: What went wrong, as a clause; the reason follows it after a colon.
        hint: What the user can do next.
        error: Class of the error that is raised.
    """
    try:
        yield
    except SkyprobeError:
        raise
    except Exception as failure:
        raise error(f"{what}: {reason_of(failure)}", where=where, hint=hint) from failure


@contextmanager
def decoding(where: object, what: str = "the image is damaged") -> Iterator[None]:
    """Turn any exception of the block into an `UnreadableImageError`: the row is marked, and extraction goes on."""
    with reading(where, what, hint="Replace or remove the file.", error=UnreadableImageError):
        yield


def unreadable(reason: str, where: object) -> UnreadableImageError:
    """The error of an image that a decoder refuses."""
    return UnreadableImageError(reason, where=where, hint="Replace or remove the file.")


def reason_of(failure: BaseException) -> str:
    """What an exception says, in one line of bounded length; its class where the text alone would say little."""
    for kind, text in _SAID_BETTER.items():
        if isinstance(failure, kind):
            return text
    if isinstance(failure, OSError) and failure.strerror:
        return failure.strerror
    text = " ".join(str(failure).split())
    if not text or isinstance(failure, LookupError | SystemError):
        text = f"{type(failure).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."
