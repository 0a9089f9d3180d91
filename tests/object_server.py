"""An S3 server of moto on loopback, and a proxy before it that disturbs requests as networks and servers do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import NamedTuple
from urllib.parse import unquote

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


class Request(NamedTuple):
    """One request as the proxy saw it.

    Attributes:
        method: ``GET``, ``PUT``, ...
        path: Path and query, unquoted.
        sent: Bytes of its body.
        received: Bytes of the answer's body.
    """

    method: str
    path: str
    sent: int
    received: int


Fault = int | str
"""A status to answer with; ``reset`` before the server sees it; its answer ``lost``, ``cut`` or ``slow``; ``half``."""


class Proxy(ThreadingHTTPServer):
    """Hands requests on.

    Args:
        server: Host and port of the server.

    Attributes:
        requests: All of them.
        choose: Which fault befalls a request, None for none.
        on_half: Called when half of the body of a request with the fault ``half`` has come.
        delay: Seconds that every answer takes, and one with the fault ``slow`` takes.
    """

    daemon_threads = True

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = server
        self.requests: list[Request] = []
        self.choose: Callable[[str, str], Fault | None] = lambda method, path: None
        self.on_half: Callable[[], object] = lambda: None
        self.delay = 0.0
        self.lock = Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is what is being tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def handle_any(self) -> None:
        path = unquote(self.path)
        with self.server.lock:
            fault = self.server.choose(self.command, path)
        size = int(self.headers.get("Content-Length") or 0)
        if fault == "half":
            self.rfile.read(size // 2)
            self.server.on_half()
            return self._hang_up()
        body = self.rfile.read(size)
        if fault == "reset":
            return self._hang_up()
        if isinstance(fault, int):
            return self._answer(fault, {}, f"<Error><Code>{_CODES.get(fault, 'InternalError')}</Code></Error>".encode())
        status, headers, answer = self._ask(body)
        with self.server.lock:
            self.server.requests.append(Request(self.command, path, size, len(answer)))
        if fault == "lost":
            return self._hang_up()
        if self.server.delay or fault == "slow":
            Event().wait(self.server.delay or 0.3)
        return self._answer(status, headers, answer, len(answer) // 2 if fault == "cut" else None)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = HTTPConnection(*self.server.server, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response_only(status)
        kept = {name: value for name, value in headers.items() if name.lower() not in _HOP}
        length = headers.get("Content-Length") or headers.get("content-length")
        kept["Content-Length"] = length if self.command == "HEAD" and length else str(len(body))
        for name, value in kept.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if cut is not None:
            self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """The log of a server is no news."""


_HOP = ("connection", "transfer-encoding", "content-length", "server", "date")
_SIGNATURE = {"Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"}
_CODES = {503: "SlowDown", 403: "AccessDenied", 409: "ConditionalRequestConflict"}


class ObjectServer:
    """A server, with a proxy before it.

    Args:
        address: Host and port of the server.
        proxy: The proxy.

    Attributes:
        proxy: The proxy.
        url: What a client asks: the proxy.
    """

    def __init__(self, address: tuple[str, int], proxy: Proxy) -> None:
        self._address = address
        self.proxy = proxy
        self.url = proxy.url

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self._ask("PUT", f"/{name}")

    def put(self, path: str, body: bytes) -> None:
        """Write an object past the proxy."""
        self._ask("PUT", path, body)

    def contents(self, bucket: str, prefix: str) -> dict[str, bytes]:
        """Key below the prefix -> bytes of every object there, past the proxy."""
        listing = self._ask("GET", f"/{bucket}?list-type=2&max-keys=100000&prefix={prefix}/").decode()
        keys = [key.replace("&amp;", "&") for key in re.findall("<Key>(.*?)</Key>", listing)]
        return {key.removeprefix(f"{prefix}/"): self._ask("GET", f"/{bucket}/{_quoted(key)}") for key in keys}

    def uploads(self, bucket: str) -> int:
        """Multipart uploads that were begun and are neither completed nor aborted."""
        return self._ask("GET", f"/{bucket}?uploads").count(b"<Upload>")

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = HTTPConnection(*self._address, timeout=60)
        try:
            connection.request(method, path, body, _SIGNATURE)
            return connection.getresponse().read()
        finally:
            connection.close()


def _quoted(key: str) -> str:
    return key.replace("%", "%25").replace(" ", "%20").replace("+", "%2B").replace("=", "%3D")


@contextmanager
def serve_objects(folder: Path) -> Iterator[ObjectServer]:
    """Start server and proxy; they end with the block.

    Args:
        folder: Where the server may write.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    log = (folder / "moto.log").open("wb")
    arguments = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", address[0], "-p", str(address[1])]
    server = subprocess.Popen(arguments, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(folder)})
    proxy = Proxy(address)
    Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
    try:
        _wait(address, server)
        yield ObjectServer(address, proxy)
    finally:
        proxy.shutdown()
        proxy.server_close()
        server.terminate()
        server.wait(30)
        log.close()


def _wait(address: tuple[str, int], server: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError("moto's server has ended")
        try:
            socket.create_connection(address, 1).close()
        except OSError:
            Event().wait(0.1)
        else:
            return
    raise RuntimeError("moto's server does not answer")
