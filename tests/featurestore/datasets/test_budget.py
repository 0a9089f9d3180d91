import pytest

from featurestore.datasets.budget import VARIABLE, check_bytes, check_size, file_budget, image_budget
from featurestore.errors import UnreadableImageError, UsageError


def test_an_image_may_take_256_mib_and_its_file_twice_as_much():
    assert image_budget() == 256 * 2**20
    assert file_budget() == 512 * 2**20


def test_the_limit_itself_is_allowed_and_one_more_row_is_not():
    check_size((8192, 8192), 4, "a.png")
    with pytest.raises(UnreadableImageError) as caught:
        check_size((8193, 8192), 4, "a.png")
    assert str(caught.value) == (
        "the image is too large: 8193 x 8192 values of 4 bytes exceed the limit of 256 MiB (the environment variable "
        "SKYPROBE_MAX_IMAGE_MIB sets another budget) [a.png]. Replace or remove the file."
    )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 0, 4), ()])
def test_an_image_without_pixels_is_refused(shape):
    with pytest.raises(UnreadableImageError, match="the image has no pixels"):
        check_size(shape, 1, "a.png")


def test_the_variable_sets_another_budget(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    check_size((1024, 1024), 1, "x")
    check_bytes(2 << 20, "x")
    with pytest.raises(UnreadableImageError, match="limit of 1 MiB"):
        check_size((1024, 1025), 1, "x")
    with pytest.raises(UnreadableImageError, match="the file is too large: its bytes exceed the limit of 2 MiB"):
        check_bytes((2 << 20) + 1, "x")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "much", "9" * 40])
def test_another_value_of_the_variable_is_an_error_of_usage(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match="is not a number of MiB"):
        image_budget()
