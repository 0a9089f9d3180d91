"""One file from the web: resumed where it stopped, checked, and in its place only when it is whole."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from featurestore.errors import DatasetError

Progress = Callable[[int, int], None]

_BLOCK = 1 << 20
_TIMEOUT = 60.0
"""Seconds without a byte after which a server counts as gone."""

_RANGE_NOT_SATISFIABLE = 416


def download(url: str, path: Path, *, checksum: str | None = None, progress: Progress = lambda *_: None) -> str:
    """Download a file.

    It grows as ``NAME.part`` beside its place, and moves there when it is whole and its checksum is right. A part that
    an earlier call left is continued if the server still has the same file (HTTP ``Range`` with ``If-Range``, RFC 9110
    sections 13.1.5 and 14.2), else it begins anew.

    Args:
        url: Where the file is, http or https.
        path: Where it shall be; its folder is made if need be.
        checksum: ``md5:HEX`` or ``sha256:HEX``; None: unknown, and not compared.
        progress: Called with bytes done and bytes in all, where the server tells how many those are.

    Returns:
        ``sha256:HEX`` of what arrived.

    Raises:
        DatasetError: The link is dead, the server does not answer, the connection broke, there is no room, or the
            checksum is wrong.
    """
    part = path.with_name(f"{path.name}.part")
    if not url.startswith(("http://", "https://")):
        raise DatasetError("the address is neither http nor https", where=url, hint="Give another address.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _complete(url, part, progress)
        if checksum:
            _compare(part, checksum, url)
        found = checksum_of(part, "sha256")
        part.replace(path)
        _tag_file(part).unlink(missing_ok=True)
    except OSError as error:
        raise DatasetError(
            f"the file cannot be written: {error.strerror or error}",
            where=path,
            hint="Check permissions and free space, or give another folder; the same command goes on.",
        ) from error
    return found


def checksum_of(path: Path, algorithm: str) -> str:
    """``ALGORITHM:HEX`` of a file, by an algorithm of hashlib."""
    with path.open("rb") as file:
        return f"{algorithm}:{hashlib.file_digest(file, algorithm).hexdigest()}"


def _complete(url: str, part: Path, progress: Progress) -> None:
    """Bring the part to its full length."""
    with _answer(url, part) as response:
        if response is None:
            return
        start = part.stat().st_size if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        _check_room(part, total or start, start)
        _tag_file(part).write_text(_tag_of(response), encoding="utf-8")
        with part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for block in _blocks(response, url):
                file.write(block)
                if total:
                    progress(file.tell(), total)
            done = file.tell()
    if total is not None and done < total:
        raise DatasetError(
            f"the connection ended after {done:,} of {total:,} bytes", where=url, hint="The same command goes on."
        )


@contextmanager
def _answer(url: str, part: Path) -> Iterator[Any]:
    """The server's answer to a request for what is missing; None if nothing is."""
    request = Request(url, headers={"User-Agent": "skyprobe", **_range(part)})  # noqa: S310, the scheme was checked
    try:
        response = urlopen(request, timeout=_TIMEOUT)  # noqa: S310
    except HTTPError as error:
        with error:
            if error.code != _RANGE_NOT_SATISFIABLE:
                _refuse(f"the link is dead: HTTP {error.code} {error.reason}", url, error)
            size = part.stat().st_size
            if error.headers.get("Content-Range", "").rpartition("/")[2] != str(size):
                part.unlink()  # longer than the file that the server has now
                _refuse("the part from before does not fit the file", url, error, "Run the same command again.")
        yield None
        return
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        _refuse(f"the server cannot be reached: {getattr(error, 'reason', error)}", url, error)
    with response:
        if response.headers.get_content_type() == "text/html":
            _refuse("the link is dead: it leads to a web page, not to a file", url, None)
        yield response


def _refuse(what: str, url: str, cause: Exception | None, hint: str = "") -> NoReturn:
    raise DatasetError(
        what, where=url, hint=hint or "Get the file from elsewhere, and give skyprobe the path of its folder."
    ) from cause


def _range(part: Path) -> dict[str, str]:
    """Headers that ask for the rest of the part, provided that the file is still the one it was begun from."""
    tag = _tag_file(part)
    known = tag.read_text(encoding="utf-8") if tag.exists() and part.exists() else ""
    return {"Range": f"bytes={part.stat().st_size}-", "If-Range": known} if known and part.stat().st_size else {}


def _tag_of(response: Any) -> str:
    """What tells this version of the file from others: a strong entity tag, or the time of its last change."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag and not tag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def _tag_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.tag")


def _blocks(response: Any, url: str) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(_BLOCK)
        except (OSError, HTTPException) as error:
            _refuse(f"the connection broke: {error}", url, error, "The same command goes on.")
        if not block:
            return
        yield block


def _check_room(part: Path, total: int, start: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total - start > free:
        raise DatasetError(
            f"{total - start:,} bytes are missing, and there is room for {free:,}",
            where=part.parent,
            hint="Free some space, or give another folder by --output.",
        )


def _compare(part: Path, checksum: str, url: str) -> None:
    found = checksum_of(part, checksum.partition(":")[0])
    if found != checksum:
        part.unlink()
        raise DatasetError(
            f"the file is not the one that was published: its checksum is {found}, not {checksum}",
            where=url,
            hint="Run the same command again; if it happens twice, get the file from elsewhere.",
        )
