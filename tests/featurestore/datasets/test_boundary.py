import tokenize
from zipfile import BadZipFile

import pytest

from featurestore.datasets.boundary import decoding, reading, reason_of, unreadable
from featurestore.errors import DatasetError, LabelMismatchError, UnreadableImageError


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (ValueError("no number\n  in line 3"), "no number in line 3"),
        (BadZipFile("File is not a zip file"), "File is not a zip file"),
        (tokenize.TokenError("EOF in multi-line statement"), "EOF in multi-line statement"),
        (OSError(13, "Permission denied", "x.fits"), "Permission denied"),
        (OSError("Can't open file"), "Can't open file"),
        (MemoryError(), "there is not enough memory for it"),
        (RecursionError("maximum recursion depth exceeded"), "it is nested too deeply"),
        (EOFError("No data left in file"), "it ends too early"),
        (KeyError("images"), "KeyError: 'images'"),
        (SystemError("NULL result"), "SystemError: NULL result"),
        (AssertionError(), "AssertionError"),
        (ValueError("x" * 5000), "x" * 300 + "..."),
    ],
)
def test_any_exception_of_a_parser_becomes_one_error_with_place_reason_and_hint(failure, reason):
    with pytest.raises(DatasetError) as caught, reading("a/b.csv", "the table cannot be read", hint="Write it again."):
        raise failure
    assert str(caught.value) == f"the table cannot be read: {reason} [a/b.csv]. Write it again."
    assert caught.value.__cause__ is failure


def test_errors_of_the_project_pass_as_they_are():
    own = LabelMismatchError("2 labels for 3 images", where="x", hint="Give one each.")
    with pytest.raises(LabelMismatchError) as caught, reading("y", "the table cannot be read", hint="Write it again."):
        raise own
    assert caught.value is own


def test_an_interrupt_is_no_fault_of_the_file():
    with pytest.raises(KeyboardInterrupt), reading("y", "the table cannot be read", hint="Write it again."):
        raise KeyboardInterrupt


def test_a_decoder_s_exception_makes_the_image_unreadable():
    with (
        pytest.raises(
            UnreadableImageError, match=r"^the image is damaged: there is not enough memory for it \[a.png\]"
        ),
        decoding("a.png"),
    ):
        raise MemoryError
    assert str(unreadable("the file is empty", "b.png")) == "the file is empty [b.png]. Replace or remove the file."


def test_the_reason_of_an_exception_without_text_is_its_class():
    assert reason_of(ZeroDivisionError()) == "ZeroDivisionError"
