"""Names of image files as people and tools write them, and the files that they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from posixpath import normpath
from unicodedata import normalize

_ABSOLUTE = re.compile(r"(?:[A-Za-z]:)?/+")


class ImageFinder:
    """Finds images by names in which slashes, the folder, or the Unicode normal form may differ.

    Args:
        found: Relative POSIX paths of the images that exist.
        folders: Folders, each with a slash at its end, that names may start from, beside that of the dataset.
    """

    def __init__(self, found: Iterable[str], folders: Sequence[str] = ()) -> None:
        self._found = set(found)
        self._folders = ("", *folders)
        self._composed: dict[str, str | None] = {}
        for path in self._found:  # two files whose names look alike are told apart by their exact names alone
            composed = compose(path)
            self._composed[composed] = None if composed in self._composed else path

    def find(self, name: str) -> str | None:
        r"""The image of that name.

        In this order: the name itself, ``\`` read as ``/``, and for an absolute path the longest part at its end that
        is an image here: annotations move between machines together with their folder.
        """
        return next((path for spelling in _spellings(name) if (path := self._look_up(spelling))), None)

    def _look_up(self, name: str) -> str | None:
        places = [folder + name for folder in self._folders]
        exact = next((place for place in places if place in self._found), None)
        return exact or next((path for place in places if (path := self._composed.get(compose(place)))), None)


def compose(name: str) -> str:
    """The name in Unicode normal form C: macOS writes an accent as a character of its own."""
    return normalize("NFC", name)


def _spellings(name: str) -> Iterator[str]:
    yield normpath(name)
    slashed = normpath(name.replace("\\", "/"))
    yield slashed
    if start := _ABSOLUTE.match(slashed):
        parts = slashed[start.end() :].split("/")
        yield from ("/".join(parts[number:]) for number in range(len(parts)))
