"""Fetch a public dataset: download, unpack, and say what opens it."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurestore.datasets.boundary import reading
from featurestore.datasets.public.download import Progress, download
from featurestore.datasets.public.registry import REMOTE
from featurestore.files import write_atomically
from featurestore.registry import unknown_name

RECORD = "fetched.json"
"""File in the folder of a fetched dataset: address -> SHA-256 and number of bytes of what arrived."""

_DOWNLOADS = ".download"
_TAR = (".tar", ".tgz", ".tar.gz")


@dataclass(frozen=True)
class FetchReport:
    """What was fetched.

    Attributes:
        dataset: What to give to other commands as DATA.
        terms: Where it comes from, its licence, whom to cite.
        checksums: Address -> SHA-256 of what arrived.
        unverified: Addresses of files for which no published checksum is known.
    """

    dataset: str
    terms: str
    checksums: dict[str, str]
    unverified: tuple[str, ...]


def fetch(name: str, output: Path | None = None, progress: Callable[[str], Progress] | None = None) -> FetchReport:
    """Fetch a public dataset; files that an earlier call brought are left as they are.

    Args:
        name: One of `REMOTE`.
        output: Folder for it; by default called like the dataset, in the current folder.
        progress: From the name of a file to what is called with its bytes done and bytes in all.

    Raises:
        UnknownNameError: No such dataset.
        DatasetError: See `download`; or an archive that cannot be unpacked.
        StoreWriteError: The record cannot be written.
    """
    if name not in REMOTE:
        raise unknown_name("public dataset", name, REMOTE)
    remote, root = REMOTE[name], output or Path(name)
    record = _read_record(root)
    for file in remote.files:
        if file.url in record and (root / file.target).exists():
            continue
        archive = root / _DOWNLOADS / file.name
        shown: dict[str, Any] = {"progress": progress(file.name)} if progress else {}
        found = download(file.url, archive, checksum=file.checksum, **shown)
        size = archive.stat().st_size
        _unpack(archive, root / file.target)
        record[file.url] = {"checksum": found, "bytes": size}
        write_atomically(root / RECORD, lambda path: path.write_text(json.dumps(record, indent=2), encoding="utf-8"))
    remote.arrange(root)
    return FetchReport(
        f"{remote.kind}:{(root / remote.folder).resolve()}",
        remote.terms,
        {file.url: record[file.url]["checksum"] for file in remote.files},
        tuple(file.url for file in remote.files if file.checksum is None),
    )


def _read_record(root: Path) -> dict[str, Any]:
    if not (root / RECORD).exists():
        return {}
    with reading(root / RECORD, "the record cannot be read", hint="Remove it."):
        return dict(json.loads((root / RECORD).read_bytes()))


def _unpack(archive: Path, target: Path) -> None:
    """Turn a download into what is kept, which appears whole; the download is removed.

    Raises:
        DatasetError: It cannot be unpacked, or something in it would land outside the folder.
    """
    part = archive.with_name(f"{archive.name}.unpacked")
    with reading(
        archive, "the file cannot be unpacked", hint="Check the free space; the same command downloads it again."
    ):
        target.parent.mkdir(parents=True, exist_ok=True)
        if archive.name.endswith(_TAR):
            _extract(archive, part, target)
        elif archive.suffix == ".gz":
            with gzip.open(archive) as packed, part.open("wb") as file:
                shutil.copyfileobj(packed, file)
            part.replace(target)
        else:
            archive.replace(target)
        archive.unlink(missing_ok=True)


def _extract(archive: Path, part: Path, target: Path) -> None:
    """The content of an archive as the folder `target`; a single folder in which all of it lies is left out."""
    for old in (part, target):
        shutil.rmtree(old, ignore_errors=True)
    with tarfile.open(archive) as tar:
        tar.extractall(part, filter="data")
    content = list(part.iterdir())
    (content[0] if len(content) == 1 and content[0].is_dir() else part).rename(target)
    shutil.rmtree(part, ignore_errors=True)
