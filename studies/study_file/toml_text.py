"""TOML text that can say where in it a value is."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from featurestore.errors import UsageError


@dataclass(frozen=True)
class TomlText:
    """A TOML file that was read.

    Attributes:
        text: Its text.
        where: Its name, for messages.
    """

    text: str
    where: str

    @cached_property
    def values(self) -> Mapping[str, Any]:
        """What it says.

        Raises:
            UsageError: It is not TOML; the message has the line.
        """
        try:
            return tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            raise UsageError(f"this is not TOML: {error}", where=self.where, hint="Correct that line.") from error
        except RecursionError as error:
            raise UsageError("the values are nested too deeply", where=self.where, hint="Write them flat.") from error

    def locate(self, *path: str | int) -> str:
        """The file and the line at which a value begins: ``study.toml, line 7``.

        Args:
            path: Keys that lead to the value, and its number, from 0, where tables form an array; without any, or
                where there is no such value, the file is all that can be told.
        """
        line = self._line(path) if path else None
        return self.where if line is None else f"{self.where}, line {line}"

    def _line(self, path: tuple[str | int, ...]) -> int | None:
        """The line after the longest beginning of the text that is TOML and lacks the value; lines count from 1."""
        before = 0
        lines = self.text.splitlines()
        for end in range(1, len(lines) + 1):
            try:
                values = tomllib.loads("\n".join(lines[:end]))
            except tomllib.TOMLDecodeError:  # in the middle of a value
                continue
            if _holds(values, path):
                return before + 1
            before = end
        return None


def _holds(values: Any, path: tuple[str | int, ...]) -> bool:
    for key in path:
        try:
            values = values[key]
        except (KeyError, IndexError, TypeError):  # no such key, no such number, or neither a table nor an array
            return False
    return True
