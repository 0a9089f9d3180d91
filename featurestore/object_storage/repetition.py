"""Requests that obstore gives up at once, repeated: an answer that breaks off, a conflict with another request."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from obstore.exceptions import AlreadyExistsError, BaseError, GenericError

_T = TypeVar("_T")

ATTEMPTS = 5
"""How often a request is made; obstore itself sits out servers that are busy or away."""


def pause(attempt: int) -> float:
    """Seconds before the next attempt, at random: it spreads those who were disturbed together."""
    return random.uniform(0, 0.1 * 2**attempt)  # noqa: S311


def repeat(request: Callable[[], _T]) -> _T:
    """The result of a request that may be made several times."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return request()
        except (GenericError, AlreadyExistsError) as error:
            if not _passes(error):
                raise
        time.sleep(pause(attempt))
    return request()


async def repeat_async(request: Callable[[], Awaitable[_T]]) -> _T:
    """The same for a coroutine."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return await request()
        except (GenericError, AlreadyExistsError) as error:
            if not _passes(error):
                raise
        await asyncio.sleep(pause(attempt))
    return await request()


def _passes(error: BaseError) -> bool:
    text = str(error)
    return "kind: Interrupted" in text or "409 Conflict" in text
