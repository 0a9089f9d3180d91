"""What a dataset is called, and the text that opens it again: ``KIND:PATH,OPTION=VALUE``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from featurestore.datasets.remote import Place
from featurestore.errors import UsageError

OPTIONS = ("catalogue", "file", "labels", "split", "keep", "image", "extension", "channels", "box_origin", "groups")
"""Options that may end the text of a dataset; all but ``groups`` are arguments of its reader, where it has them."""

_LISTS, _PATHS, _NUMBERS = ("labels", "keep"), ("catalogue",), ("extension",)
_ENDING = re.compile(rf"(?P<data>.*),(?P<name>{'|'.join(OPTIONS)})=(?P<value>[^,]*)", re.DOTALL)
_SPECIAL = re.compile(r"[%,+]")


def source_at(kind: str, path: Place) -> str:
    """``KIND:PATH`` with the absolute path: what opens the dataset from anywhere."""
    return f"{kind}:{path.resolve()}"


def default_name(source: str) -> str:
    """A folder name such as ``galaxies-1f0c3a``.

    The last part of the path is for readers; six digits of the SHA-256 of the whole source tell apart folders that
    are called alike.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source.partition(":")[2]).stem).strip("-._")[:60]
    return f"{readable or 'dataset'}-{sha256(source.encode(errors='surrogateescape')).hexdigest()[:6]}"


def identity(kind: str, path: Place, name: str | None) -> dict[str, Any]:
    """The fields ``name`` and ``source`` of a sample table; `name` wins over the default."""
    source = source_at(kind, path)
    return {"name": name or default_name(source), "source": source}


def split_options(text: str) -> tuple[str, dict[str, Any]]:
    """The text of a dataset without the options at its end; and their values by name.

    Several values of one option are joined by ``+``; a comma, plus or percent sign in a value is written ``%2C``,
    ``%2B``, ``%25``.

    Raises:
        UsageError: An option is given twice, or has no value.
    """
    options: dict[str, Any] = {}
    while match := _ENDING.fullmatch(text):
        text, name = match["data"], match["name"]
        if name in options or not match["value"]:
            problem = "is given twice" if name in options else "has no value"
            raise UsageError(
                f"the option {name} of the dataset {problem}", where=text, hint=f"Write ,{name}=VALUE once."
            )
        options = {name: _parse(name, match["value"]), **options}
    return text, options


def with_options(text: str, options: Mapping[str, Any]) -> str:
    """The text of a dataset with options at its end; those that are None or empty are left out, as are unknown ones."""
    given = {name: options[name] for name in OPTIONS if options.get(name) not in (None, "", (), [])}
    return text + "".join(f",{name}={_format(name, value)}" for name, value in given.items())


def _parse(name: str, value: str) -> Any:
    if name in _LISTS:
        return tuple(unquote(part) for part in value.split("+"))
    if name in _NUMBERS and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if name == "groups" else unquote(value)


def _format(name: str, value: Any) -> str:
    if name in _PATHS and "://" not in str(value):
        value = Path(value).expanduser().resolve()
    parts = value if isinstance(value, tuple | list) else [value]
    return "+".join(_SPECIAL.sub(lambda sign: f"%{ord(sign[0]):02X}", str(part)) for part in parts)
