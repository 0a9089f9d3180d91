"""How a stage speaks to its user: progress and notices while it runs, a result at its end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class Reporter(Protocol):
    """Whoever shows long work to its user."""

    def progress(self, label: str) -> Callable[[int, int], None]:
        """A callable for (done, total) of one long step."""
        ...

    def notice(self, text: str) -> None:
        """Show a licence notice or a remark; the empty text shows nothing."""
        ...


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage came to.

    Attributes:
        tables: Result tables as plain text.
        files: What was written: name -> path.
        seconds: Wall time of each stage.
        unreadable: sample id -> reason, of all images that could not be read.
    """

    tables: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    unreadable: Mapping[str, str] = field(default_factory=dict)
