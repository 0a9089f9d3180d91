"""Study files: TOML to a `Study`; every mistake is told with its key, its line and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from featurestore.errors import SkyprobeError, UsageError
from featurestore.extraction.requests import ExtractionOptions
from featurestore.registry import unknown_name
from studies.study_file.spec import FigureOptions, ProbeOptions, Study
from studies.study_file.toml_text import TomlText

_TABLES = {"extract": ExtractionOptions, "probe": ProbeOptions, "figures": FigureOptions}
_RENAMED = {("extract", "lanes"): "workers", ("figures", "look"): "diagnostics"}
"""Keys of older versions, by their tables."""


def read_study(path: Path, notice: Callable[[str], None]) -> Study:
    """The study that a TOML file describes.

    Args:
        path: The file; or the name of a shipped study, see `shipped_studies`.
        notice: Told of keys that have another name now.

    Raises:
        UsageError: The file cannot be read, is not TOML, or a value has the wrong type or is out of its range.
        UnknownNameError: A key that does not exist.
    """
    if (shipped := shipped_studies().get(str(path))) and not path.is_file():
        return parse_study(shipped.read_text(encoding="utf-8"), where=str(shipped), notice=notice)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the study: {error.strerror}", where=path, hint="Give a TOML file.") from error
    except UnicodeDecodeError as error:
        raise UsageError("the study is not UTF-8 text", where=path, hint="Save it as UTF-8.") from error
    return parse_study(text, where=str(path), notice=notice)


def shipped_studies() -> dict[str, Traversable]:
    """The studies that come with skyprobe, by name."""
    found = (files("studies") / "shipped").iterdir()
    return {one.name.removesuffix(".toml"): one for one in sorted(found, key=lambda one: one.name)}


def parse_study(text: str, *, where: str, notice: Callable[[str], None] | None = None) -> Study:
    """The study that TOML text describes; see `read_study`."""
    file = TomlText(text, where)
    given = {name: _rename(file, name, value, notice) for name, value in file.values.items()}
    if missing := {"datasets", "backbones"} - given.keys():
        raise UsageError(f"the study lacks {' and '.join(sorted(missing))}", where=where, hint="Add a list of names.")
    options = {name: _make(kind, given.pop(name), file, name) for name, kind in _TABLES.items() if name in given}
    study: Study = _make(Study, given | options, file)
    return replace(study, file=file)


def _rename(file: TomlText, table: str, values: Any, notice: Callable[[str], None] | None) -> Any:
    """A table with the present names of its keys; another value as it is."""
    if not isinstance(values, Mapping):
        return values
    renamed = dict(values)
    for old in values:
        if new := _RENAMED.get((table, old)):
            renamed[new] = renamed.pop(old)
            if notice:
                notice(f"{file.locate(table, old)}: {old} is called {new} now; the old name is still read.")
    return renamed


def _make(kind: type[Any], table: object, file: TomlText, *path: str) -> Any:
    if not isinstance(table, Mapping):
        raise UsageError("a table is expected", where=file.locate(*path), hint="Write its name in square brackets.")
    with placed(file, table, *path):
        known = [one.name for one in fields(kind) if one.name != "file"]
        for key in table:
            if key not in known:
                raise unknown_name("option", key, known)
        return kind(**table)


@contextmanager
def placed(file: TomlText | None, table: Mapping[str, Any], *path: str | int) -> Iterator[None]:
    """Errors of the block below say which line of which table they are about.

    Args:
        file: Where the table is; None for one that comes from no file.
        table: The values that options are made of.
        path: Keys that lead to the table.
    """
    try:
        yield
    except SkyprobeError as error:
        key = _find_key(error, table)
        place = file.locate(*path, *([] if key is None else [key])) if file else ""
        named = str(key) if error.where == "option" else error.where
        told = ": ".join(part for part in (place, _name_table(*path), named) if part)
        raise type(error)(error.what.replace("unknown option", "unknown key"), where=told, hint=error.hint) from None


def _find_key(error: SkyprobeError, table: Mapping[str, Any]) -> str | None:
    """The key that an error is about: one that it quotes as unknown, or one that it names; None where it tells none."""
    quoted = [key for key in table if error.where == "option" and f"{key!r}" in error.what]
    named = error.where.partition("=")[0].partition(".")[0]
    found = (
        quoted or [key for key in table if key == named] or [key for key in table if named and key.startswith(named)]
    )
    return found[0] if found else None


def _name_table(*path: str | int) -> str:
    """``[probe]``, or ``[[finetune]], table 2``."""
    if not path:
        return ""
    return f"[{path[0]}]" if len(path) == 1 else f"[[{path[0]}]], table {int(path[1]) + 1}"
