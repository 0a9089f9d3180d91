"""open_store: from a path to a store, which is made where there is none."""

from __future__ import annotations

import os
from typing import Any, Literal

from featurestore.errors import CorruptStoreError, StoreError, StoreFormatError, UsageError
from featurestore.store.commands import EXAMPLE, extract_command
from featurestore.store.layout.key_arrays import recover_block_rows
from featurestore.store.layout.storage import Storage, repair_hint
from featurestore.store.store import FeatureStore
from featurestore.store.table.tables import CURRENT, DATASETS, FEATURES, check_block_rows

FORMAT = "skyprobe"

FORMAT_VERSION = 2
"""Version of the store format that is written. Version 1 is read, and written after ``skyprobe migrate``."""


def default_store_path() -> str:
    """``$SKYPROBE_STORE``, else ``./skyprobe.zarr``."""
    return os.environ.get("SKYPROBE_STORE") or "skyprobe.zarr"


def is_store(path: str | None = None) -> bool:
    """Whether anything stands where a store is to be; opening it says whether that is one.

    Args:
        path: A folder or URL; `default_store_path` for None.

    Raises:
        StoreError: That cannot be known: a folder that cannot be read, an object store that does not answer.
    """
    return not Storage(str(path or default_store_path()), read_only=True).is_vacant()


def open_store(
    path: str | None = None, *, mode: Literal["r", "a"] = "r", block_rows: int | None = None, volatile: bool = False
) -> FeatureStore:
    """Open a store.

    Args:
        path: A folder or URL; `default_store_path` for None.
        mode: ``r`` reads; ``a`` also writes, and makes the store if there is none.
        block_rows: Rows of a block in a store that is made; an existing store keeps its own. None: each dataset has its
            own, by its size when it is first put: 512, or 4,096 from 2^18 samples, or 8,192 from 2^24.
        volatile: Whether datasets and cached results that are put last as long as the object, and nothing is written;
            with `mode` ``r`` only. Without it, a store that is opened for reading refuses them.

    Raises:
        StoreError: There is no store to read.
        StoreFormatError: The folder is not a skyprobe store, or one of another format version.
        StoreWriteError: The store cannot be made or written.
    """
    if block_rows is not None and block_rows < 1:
        raise UsageError(f"a block of {block_rows} rows", where="block_rows", hint="Use 1 or more; 512 suits most.")
    path = str(path or default_store_path())
    storage = Storage(path, read_only=mode == "r")
    attributes = read_root(storage)
    if attributes is None:
        if storage.is_vacant():
            _make(storage, block_rows)
        attributes = storage.attributes("") or {}  # another process may have made the store meanwhile
    version = _check_version(attributes, path)
    if version < FORMAT_VERSION and not storage.read_only:
        raise StoreFormatError(
            f"the store has format version {version}, which is only read",
            where=path,
            hint=f"Run: skyprobe migrate --store {path}. Features stay where they are; it takes seconds.",
        )
    if not storage.read_only:
        storage.check_writable()
    stated = attributes.get("block_rows")
    size = None if stated is None and version > 1 else check_block_rows(stated, path)
    return FeatureStore(storage, version, size, volatile=volatile and storage.read_only)


def read_root(storage: Storage) -> dict[str, Any] | None:
    """Attributes of the root; made anew, in a store that is opened for writing, where they are lost and known.

    Raises:
        CorruptStoreError: They are damaged, and the store was opened for reading, or nothing tells what they were.
    """
    try:
        attributes, what = storage.attributes(""), "is lost"
    except CorruptStoreError as error:
        attributes, what = None, f"is damaged: {error.what}"
    if attributes or (what == "is lost" and not storage.children(FEATURES)):
        return attributes
    recovered = _recover_root(storage)
    if recovered and not storage.read_only:
        storage.rewrite_group("", recovered)
        return recovered
    if recovered is None and what == "is lost":
        return attributes  # a folder of somebody else
    hint = repair_hint(storage.path) if recovered else "Restore it from a copy."
    raise CorruptStoreError(f"the metadata of the store {what}", where=storage.where("zarr.json"), hint=hint)


def _recover_root(storage: Storage) -> dict[str, Any] | None:
    """The root as datasets and chunks tell it; None where there are none that can be understood."""
    for name in storage.children(DATASETS):
        try:
            if CURRENT[FORMAT_VERSION] in (storage.attributes(f"{DATASETS}/{name}") or {}):
                return root_attributes(None)
        except CorruptStoreError:
            continue
    block_rows = recover_block_rows(storage, FEATURES, ("dataset", "variant", "backbone", "key"))
    return None if block_rows is None else root_attributes(block_rows, version=1)


def root_attributes(block_rows: int | None, version: int = FORMAT_VERSION) -> dict[str, Any]:
    """Attributes of the root of a store."""
    return {"format": FORMAT, "format_version": version} | ({} if block_rows is None else {"block_rows": block_rows})


def _make(storage: Storage, block_rows: int | None) -> None:
    if storage.read_only:
        raise StoreError(
            "there is no store",
            where=storage.path,
            hint="Name another one by --store or $SKYPROBE_STORE; or make it by extracting features of your images, "
            f"or of a public dataset: {extract_command('first', EXAMPLE, '', storage.path, {})}",
        )
    storage.require_group("", root_attributes(block_rows))


def _check_version(attributes: dict[str, Any], path: str) -> int:
    """Format version of a root that is really ours."""
    if attributes.get("format") != FORMAT:
        raise StoreFormatError("this is not a skyprobe store", where=path, hint="Name another folder by --store.")
    version = attributes.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise StoreFormatError(
            f"the store has format version {version}, this skyprobe reads versions 1 to {FORMAT_VERSION}",
            where=path,
            hint="Use a newer skyprobe: pip install --upgrade skyprobe, or extract into a new store.",
        )
    return version
