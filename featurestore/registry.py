"""One lazy registry over Python entry points: built-ins and third parties take the same path."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from featurestore.errors import MissingDependencyError, UnknownNameError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one entry-point group, loaded only when asked for.

    Args:
        group: Entry-point group, for example ``skyprobe.datasets``.
        noun: What an entry is, for messages: ``dataset reader``.
    """

    def __init__(self, group: str, noun: str) -> None:
        self.group = group
        self.noun = noun

    @cached_property
    def _entries(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points  # its import takes 20 ms

        return {entry.name: entry for entry in entry_points(group=self.group)}

    def names(self) -> list[str]:
        """Sorted names; nothing is imported."""
        return sorted(self._entries)

    def get(self, name: str) -> T:
        """The object registered under `name`.

        Raises:
            UnknownNameError: No entry has that name; the nearest ones are offered.
            MissingDependencyError: The entry's module needs a library that is not installed.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise unknown_name(self.noun, name, self.names())
        try:
            return cast("T", entry.load())
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"the {self.noun} {name!r} needs the module {error.name!r}, which is not installed",
                where=entry.value,
                hint=f"Install it: pip install {str(error.name).partition('.')[0]}.",
            ) from error


def unknown_name(noun: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name outside `known`, with the nearest names that exist."""
    known = sorted(known)
    near = get_close_matches(name, known, n=5, cutoff=0.4)
    hint = f"Did you mean {', '.join(near)}?" if near else f"Known: {', '.join(known) or 'none'}."
    return UnknownNameError(f"unknown {noun} {name!r}", where=noun, hint=hint)
