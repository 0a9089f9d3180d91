"""Small images, written where a test wants them, and the real data that lies beside the project."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

SHARED = Path(__file__).parents[4] / "shared" / "data"


def pixels_of(number: int, shape: tuple[int, ...] = (6, 8)) -> np.ndarray:
    """Pixels that differ from number to number."""
    return np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """The bytes of an image file."""

    def apply(image: np.ndarray | Image.Image, kind: str = "png", **options: Any) -> bytes:
        file = BytesIO()
        (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
        return file.getvalue()

    return apply


@pytest.fixture
def write_images(tmp_path: Path, encode: Callable[..., bytes]) -> Callable[..., Path]:
    """Write one numbered image a path, PNG or FITS by its suffix, and return the folder."""

    def write(*paths: str) -> Path:
        for number, name in enumerate(paths):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if ".fits" in name:
                fits.writeto(path, pixels_of(number).astype(np.float32))
            else:
                path.write_bytes(encode(pixels_of(number)))
        return tmp_path

    return write


@pytest.fixture
def write_json() -> Callable[[Path, Any], None]:
    def write(path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    return write


@pytest.fixture
def write_voc() -> Callable[..., None]:
    """Write a Pascal-VOC annotation of an image of 6 x 8 pixels; an object is its class and the corners of its box."""

    def write(path: Path, *objects: tuple[str, int, int, int, int]) -> None:
        boxes = (
            f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
            for name, x0, y0, x1, y1 in objects
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        size = "<size><width>8</width><height>6</height><depth>1</depth></size>"
        path.write_text(f"<annotation>{size}{''.join(boxes)}</annotation>")

    return write


@pytest.fixture
def shared() -> Callable[[str], Path]:
    """A folder of real data beside the project; the test is skipped where it is absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).is_dir():
            pytest.skip(f"{name} is not on this machine")
        return SHARED / name

    return find


@pytest.fixture
def expected_pixels() -> Callable[..., np.ndarray]:
    """The pixels that `write_images` wrote, by number."""
    return pixels_of


class Site(ThreadingHTTPServer):
    """A web server whose manners a test chooses, and which remembers what it was asked."""

    daemon_threads = True
    ranges = True
    tag: str | None = '"v1"'
    cut: int | None = None
    status = 200
    kind = "application/gzip"
    length = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str | None] = []

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is part of the tests."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        site, span = self.server, self.headers.get("Range")
        site.asked.append(span)
        fresh = self.headers.get("If-Range") == site.tag
        start = int(span[6:-1]) if span and site.ranges and fresh else 0
        content = site.files.get(self.path)
        if content is None or site.status != 200:
            self.send_error(404 if content is None else site.status)
            return
        if start and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Type", site.kind)
        if site.length:
            self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if site.tag:
            self.send_header("ETag", site.tag)
        self.end_headers()
        self.wfile.write(body if site.cut is None else body[: site.cut])

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
