from __future__ import annotations

import asyncio

import pytest
from obstore.exceptions import AlreadyExistsError, GenericError

from featurestore.object_storage import repetition
from featurestore.object_storage.repetition import ATTEMPTS, repeat, repeat_async


@pytest.fixture(autouse=True)
def no_pause(monkeypatch) -> None:
    monkeypatch.setattr(repetition, "pause", lambda attempt: 0.0)


def failing(*errors: Exception):
    left = list(errors)

    def request() -> int:
        if left:
            raise left.pop(0)
        return 1

    return request


BROKEN, CONFLICT = GenericError("kind: Interrupted"), AlreadyExistsError("409 Conflict")


@pytest.mark.parametrize("errors", [(), (BROKEN,), (CONFLICT, BROKEN), (BROKEN,) * (ATTEMPTS - 1)])
def test_what_passes_is_repeated(errors: tuple[Exception, ...]) -> None:
    assert repeat(failing(*errors)) == 1
    again = failing(*errors)

    async def request() -> int:
        return again()

    assert asyncio.run(repeat_async(request)) == 1


@pytest.mark.parametrize(
    "errors", [(BROKEN,) * ATTEMPTS, (GenericError("403"),), (AlreadyExistsError("412"),), (FileNotFoundError(),)]
)
def test_what_stays_is_raised(errors: tuple[Exception, ...]) -> None:
    with pytest.raises(type(errors[-1])):
        repeat(failing(*errors))
