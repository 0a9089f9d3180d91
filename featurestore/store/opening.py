"""open_store: from a path to a store, which is made where there is none."""

from __future__ import annotations

import os
from typing import Any, Literal

from featurestore.errors import CorruptStoreError, StoreError, StoreFormatError, UsageError
from featurestore.store.key import FORMAT_VERSION
from featurestore.store.layout.storage import Storage
from featurestore.store.repair.metadata import recover_block_rows
from featurestore.store.store import FEATURES, FeatureStore

FORMAT = "skyprobe"


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
    path: str | None = None, *, mode: Literal["r", "a"] = "r", block_rows: int = 512, volatile: bool = False
) -> FeatureStore:
    """Open a store.

    Args:
        path: A folder or URL; `default_store_path` for None.
        mode: ``r`` reads; ``a`` also writes, and makes the store if there is none.
        block_rows: Rows of a block in a store that is made; an existing store keeps its own.
        volatile: Whether datasets and cached results that are put last as long as the object, and nothing is written;
            with `mode` ``r`` only. Without it, a store that is opened for reading refuses them.

    Raises:
        StoreError: There is no store to read.
        StoreFormatError: The folder is not a skyprobe store, or one of another format version.
        StoreWriteError: The store cannot be made or written.
    """
    if block_rows < 1:
        raise UsageError(f"a block of {block_rows} rows", where="block_rows", hint="Use 1 or more; 512 suits most.")
    path = str(path or default_store_path())
    storage = Storage(path, read_only=mode == "r")
    attributes = _root_attributes(storage)
    if attributes is None:
        if storage.is_vacant():
            _make(storage, block_rows)
        attributes = storage.attributes("") or {}  # another process may have made the store meanwhile
    checked = _checked(attributes, path)
    if not storage.read_only:
        storage.check_writable()
    return FeatureStore(storage, checked, volatile=volatile and storage.read_only)


def _root_attributes(storage: Storage) -> dict[str, Any] | None:
    """Attributes of the root; made anew, in a store that is opened for writing, where they are lost and known.

    Raises:
        CorruptStoreError: They are damaged, and the store was opened for reading, or nothing tells the block size.
    """
    try:
        attributes, what = storage.attributes(""), "is lost"
    except CorruptStoreError as error:
        attributes, what = None, f"is damaged: {error.what}"
    if attributes or (what == "is lost" and not storage.children(FEATURES)):
        return attributes
    block_rows = recover_block_rows(storage, FEATURES)
    if block_rows and not storage.read_only:
        storage.rewrite_group("", _root(block_rows))
        return _root(block_rows)
    if block_rows is None and what == "is lost":
        return attributes  # a folder of somebody else
    hint = f"Run: skyprobe verify --repair --store {storage.path}." if block_rows else "Restore it from a copy."
    raise CorruptStoreError(f"the metadata of the store {what}", where=storage.where("zarr.json"), hint=hint)


def _root(block_rows: int) -> dict[str, Any]:
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "block_rows": block_rows}


def _make(storage: Storage, block_rows: int) -> None:
    if storage.read_only:
        raise StoreError(
            "there is no store",
            where=storage.path,
            hint="Make it by extracting features: skyprobe extract DATA -b BACKBONE -p VARIANT "
            f"--store {storage.path}, or name another store by --store or $SKYPROBE_STORE.",
        )
    storage.require_group("", _root(block_rows))


def _checked(attributes: dict[str, Any], path: str) -> int:
    """Rows of a block, from the attributes of a root that is really ours."""
    if attributes.get("format") != FORMAT:
        raise StoreFormatError("this is not a skyprobe store", where=path, hint="Name another folder by --store.")
    version = attributes.get("format_version")
    if version != FORMAT_VERSION:
        raise StoreFormatError(
            f"the store has format version {version}, this skyprobe reads version {FORMAT_VERSION}",
            where=path,
            hint="Use a newer skyprobe: pip install --upgrade skyprobe, or extract into a new store.",
        )
    block_rows = attributes.get("block_rows")
    if not isinstance(block_rows, int) or block_rows < 1:
        raise CorruptStoreError(
            f"the store says {block_rows!r} for the rows of a block",
            where=path,
            hint="Restore block_rows in the attributes of its zarr.json; 512 unless another size was chosen.",
        )
    return block_rows
