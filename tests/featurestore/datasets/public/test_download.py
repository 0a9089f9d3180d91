from __future__ import annotations

import errno
import hashlib
import io
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from featurestore.datasets.public.download import checksum_of, download
from featurestore.errors import DatasetError

CONTENT = bytes(range(256)) * 10_000
URL = "/data.gz"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


@pytest.fixture
def site(site: Any) -> Any:
    site.files[URL] = CONTENT
    return site


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "new" / "data.gz"


def _interrupt(site: Any, path: Path, n_bytes: int) -> None:
    """A download that breaks off after some bytes."""
    site.cut = n_bytes
    with pytest.raises(DatasetError, match=rf"the connection ended after {n_bytes:,} of 2,560,000 bytes .*goes on"):
        download(site.url(URL), path, checksum=MD5)
    assert not path.exists()
    site.cut = None


def test_a_whole_file(site: Any, path: Path) -> None:
    steps: list[tuple[int, int]] = []
    found = download(site.url(URL), path, checksum=MD5, progress=lambda done, total: steps.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert found == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}" == checksum_of(path, "sha256")
    assert steps[-1] == (len(CONTENT), len(CONTENT)) and len(steps) >= 3
    assert [file.name for file in path.parent.iterdir()] == ["data.gz"]


def test_an_interrupted_download_goes_on(site: Any, path: Path) -> None:
    _interrupt(site, path, 1_000_000)
    steps: list[int] = []
    download(site.url(URL), path, checksum=MD5, progress=lambda done, _: steps.append(done))
    assert path.read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1000000-"]
    assert steps[0] > 1_000_000
    assert [file.name for file in path.parent.iterdir()] == ["data.gz"]


def test_a_server_without_ranges_begins_anew(site: Any, path: Path) -> None:
    site.ranges = False
    _interrupt(site, path, 1_000_000)
    download(site.url(URL), path, checksum=MD5)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("change", [{"tag": '"v2"'}, {"tag": None}])
def test_a_file_that_changed_meanwhile_begins_anew(site: Any, path: Path, change: dict[str, str | None]) -> None:
    _interrupt(site, path, 1_000_000)
    site.files[URL], site.tag = CONTENT[::-1], change["tag"]
    download(site.url(URL), path)
    assert path.read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_without_a_strong_tag_nothing_is_continued(site: Any, path: Path, tag: str | None) -> None:
    site.tag = tag
    _interrupt(site, path, 1_000_000)
    download(site.url(URL), path, checksum=MD5)
    assert site.asked == [None, None]
    assert path.read_bytes() == CONTENT


def test_a_complete_part_is_not_fetched_again(site: Any, path: Path) -> None:
    _interrupt(site, path, 1_000_000)
    (path.parent / "data.gz.part").write_bytes(CONTENT)
    download(site.url(URL), path, checksum=MD5)
    assert path.read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_removed(site: Any, path: Path) -> None:
    _interrupt(site, path, 1_000_000)
    (path.parent / "data.gz.part").write_bytes(CONTENT + b"more")
    with pytest.raises(DatasetError, match=r"the part from before does not fit the file .*Run the same command again"):
        download(site.url(URL), path)
    download(site.url(URL), path, checksum=MD5)
    assert path.read_bytes() == CONTENT


def test_a_server_that_tells_no_length(site: Any, path: Path) -> None:
    site.length = False
    steps: list[int] = []
    download(site.url(URL), path, checksum=MD5, progress=lambda done, _: steps.append(done))
    assert path.read_bytes() == CONTENT and not steps


def test_a_truncated_file_of_unknown_length_fails_its_checksum(site: Any, path: Path) -> None:
    site.length, site.cut = False, 1000
    with pytest.raises(DatasetError, match="not the one that was published"):
        download(site.url(URL), path, checksum=MD5)


@pytest.mark.parametrize("status", [403, 404, 410, 500])
def test_a_dead_link(site: Any, path: Path, status: int) -> None:
    site.status = status
    with pytest.raises(DatasetError, match=rf"the link is dead: HTTP {status} .*127.*Get the file from elsewhere"):
        download(site.url(URL), path)


def test_a_web_page_in_place_of_the_file(site: Any, path: Path) -> None:
    site.kind = "text/html; charset=utf-8"
    with pytest.raises(DatasetError, match="the link is dead: it leads to a web page"):
        download(site.url(URL), path)


def test_no_server(site: Any, path: Path) -> None:
    url = site.url(URL)
    site.server_close()
    with pytest.raises(DatasetError, match="the server cannot be reached"):
        download(url, path)


def test_a_wrong_checksum_leaves_nothing(site: Any, path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"its checksum is {MD5}, not md5:0{{32}} .*Run the same command again"):
        download(site.url(URL), path, checksum="md5:" + "0" * 32)
    assert not path.exists() and not (path.parent / "data.gz.part").exists()


def test_no_room_is_known_before_the_first_byte(site: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000))
    with pytest.raises(DatasetError, match=r"2,560,000 bytes are missing, and there is room for 1,000 .*Free some"):
        download(site.url(URL), path)


def test_a_disk_that_fills_up(site: Any, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", lambda *_, **__: Full())
    monkeypatch.setattr(Path, "write_text", lambda *_, **__: 0)
    with pytest.raises(DatasetError, match=r"cannot be written: No space left on device .*the same command goes on"):
        download(site.url(URL), path)


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="neither http nor https"):
        download(f"file://{tmp_path}/x", tmp_path / "y")
