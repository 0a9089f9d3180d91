import numpy as np
import pytest

from featurestore.datasets.decoding import netpbm
from featurestore.datasets.decoding.images import decode_image
from featurestore.datasets.decoding.netpbm import decode_netpbm
from featurestore.errors import UnreadableImageError

GREY = np.array([[0, 500, 4095], [1, 256, 255]], dtype=np.uint16)
COLOUR = np.arange(18, dtype=np.uint16).reshape(2, 3, 3) * 227


@pytest.mark.parametrize("top", [4095, 65535])
def test_binary_values_are_those_that_were_written(top: int) -> None:
    for kind, image in ((5, GREY), (6, COLOUR)):
        data = f"P{kind}\n# by hand\n3 2\n{top}\n".encode() + image.astype(">u2").tobytes()
        decoded = decode_image(data, "x")
        assert decoded.dtype == np.uint16
        np.testing.assert_array_equal(decoded, image)


def test_values_as_text() -> None:
    for kind, image in ((2, GREY), (3, COLOUR)):
        data = f"P{kind} 3 2 65535\n{' '.join(str(value) for value in image.flat)}\n".encode()
        np.testing.assert_array_equal(decode_image(data, "x"), image)


def test_a_text_longer_than_the_image_is_read_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(netpbm, "_PIECE", 3)
    text = "  ".join(str(value) for value in GREY.flat) + " 9" * 100
    np.testing.assert_array_equal(decode_image(f"P2 3 2 4095\n{text}".encode(), "x"), GREY)


def test_8_bits_are_left_to_pillow() -> None:
    assert decode_netpbm(b"P5 1 1 255\n\x07", "x") is None
    assert decode_image(b"P5 1 1 255\n\x07", "x").tolist() == [[7]]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P5 2 2 65535\n\0\1\0", "fewer pixels"),
        (b"P5 1 1 1000\n\xff\xff", "values beyond it"),
        (b"P2 2 1 1000\n7 x", "fewer pixels|unmatched data"),
        (b"P2 1 1 1000\n-7", "values beyond it"),
        (b"P5 0 1 1000\n", "no pixels"),
        (b"P5 1 1 70000\n\0\0\0\0", "beyond 16 bits"),
        (b"P6 99999 99999 65535\n", "too large"),
    ],
)
def test_what_does_not_fit_its_header_is_unreadable(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImageError, match=reason):
        decode_image(data, "x")
