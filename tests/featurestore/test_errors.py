"""Every error says what, where and what next, and survives the way between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from featurestore import errors
from featurestore.errors import SkyprobeError

KINDS = sorted(
    (
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, Warning)
    ),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", KINDS)
def test_all_errors_belong_to_one_tree(kind: type[Exception]) -> None:
    assert issubclass(kind, SkyprobeError)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("clone", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_a_copy_keeps_type_and_message(kind: type[SkyprobeError], clone) -> None:
    error = kind("the file is empty", where="a/b.png", hint="Remove it.")
    copied = clone(error)
    assert type(copied) is kind
    assert str(copied) == str(error) == "the file is empty [a/b.png]. Remove it."
    assert (copied.what, copied.where, copied.hint) == ("the file is empty", "a/b.png", "Remove it.")


def test_where_may_be_any_object() -> None:
    error = SkyprobeError("bad row", where=7, hint="Skip it.")
    assert error.where == "7"
    assert str(error) == "bad row [7]. Skip it."


@pytest.mark.parametrize("given", [{}, {"where": "x"}, {"hint": "Do."}])
def test_no_part_of_the_message_can_be_left_out(given: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="missing"):
        SkyprobeError("what", **given)


def test_callers_can_catch_by_kind_of_trouble() -> None:
    assert issubclass(errors.EmptyDatasetError, errors.DatasetError)
    assert issubclass(errors.WeightsUnavailableError, errors.BackboneError)
    assert issubclass(errors.MissingFeaturesError, errors.StoreError)
    assert not issubclass(errors.UnreadableImageError, errors.DatasetError), "one bad image must not end an extraction"
