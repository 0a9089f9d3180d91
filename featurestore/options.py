"""Options that check themselves when they are made: strict pydantic dataclasses whose errors are the project's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from functools import wraps
from typing import Annotated, Any, TypeVar, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from featurestore.errors import SkyprobeError, UsageError
from featurestore.registry import unknown_name

T = TypeVar("T")

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
"""No text becomes a number, no fraction a whole one, no word a truth value; NaN and infinity are not options."""

Share = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Names = Annotated[tuple[str, ...], Field(strict=False)]
Numbers = Annotated[tuple[int, ...], Field(strict=False)]
"""Types of fields; a list may be given for a tuple, as in TOML, but what is in it has to have the very type."""

_UNKNOWN = "unexpected_keyword_argument"


@dataclass_transform(frozen_default=True)
def options(kind: type[T]) -> type[T]:
    """A frozen dataclass whose values have the annotated types and ranges, or whose making fails.

    The class it decorates is written like a dataclass; ranges are `pydantic.Field` inside `typing.Annotated`. An
    instance raises `UnknownNameError` for a name that is not a field (with the nearest fields), and `UsageError` for
    values that do not fit, whose `where` is ``NAME=VALUE``, by commas if there are several.
    """
    made: Any = dataclass(frozen=True, config=_STRICT)(kind)
    check = made.__init__

    @wraps(check)
    def make(self: object, *args: Any, **given: Any) -> None:
        try:
            check(self, *args, **given)
        except ValidationError as error:
            raise _translate(error, [one.name for one in fields(made)]) from None

    made.__init__ = make
    checked: type[T] = made
    return checked


def one_of(noun: str, known: Collection[str]) -> AfterValidator:
    """For `typing.Annotated`: text that has to be one of some names, else `UnknownNameError` with the nearest."""

    def check(value: str) -> str:
        if value not in known:
            raise unknown_name(noun, value, known)
        return value

    return AfterValidator(check)


def assign(
    given: Mapping[str, Any], owners: Mapping[str, type], *, apart: Collection[str] = ()
) -> dict[str, dict[str, Any]]:
    """Flat options by the one that has each of them among its fields; None stands for what was not given.

    Args:
        given: Values by name.
        owners: Name -> a dataclass; the first that has a field takes it.
        apart: Fields that are not flat options.

    Raises:
        UnknownNameError: A name that none of them has; the nearest are offered.
    """
    taken: dict[str, dict[str, Any]] = {owner: {} for owner in owners}
    known = {
        field.name: owner
        for owner, kind in reversed(list(owners.items()))
        for field in fields(kind)
        if field.name not in apart
    }
    for name, value in given.items():
        if name not in known:
            raise unknown_name("option", name, known)
        if value is not None:
            taken[known[name]][name] = value
    return taken


def _translate(error: ValidationError, names: Sequence[str]) -> SkyprobeError:
    details = error.errors(include_url=False, include_context=False)
    for one in details:
        if one["type"] == _UNKNOWN:
            return unknown_name("option", str(one["loc"][0]), names)
    located = [(_name(one["loc"], names), one) for one in details]
    return UsageError(
        "; ".join(_word(one["msg"]).replace("Input", name, 1) for name, one in located),
        where=", ".join(f"{name}={one['input']!r}" for name, one in located),
        hint="Correct it, or leave it out.",
    )


def _word(message: str) -> str:
    """A message of pydantic in words that hold for Python and for TOML."""
    return message.replace("valid tuple", "list").replace("valid dictionary", "table")


def _name(place: Sequence[int | str], names: Sequence[str]) -> str:
    """Name of a value, with its place inside; pydantic numbers arguments that are given by position."""
    first, *rest = place or ("",)
    return ".".join(map(str, (names[first] if isinstance(first, int) else first, *rest)))
