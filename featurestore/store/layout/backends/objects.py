"""ObjectFiles: a store in a bucket of S3, Google Cloud or Azure, or in memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from obstore.exceptions import AlreadyExistsError, BaseError, GenericError
from typing_extensions import override
from zarr.storage import ObjectStore

from featurestore.object_storage.connection import Connection, connect
from featurestore.object_storage.refusals import explain_refusal
from featurestore.object_storage.repetition import ATTEMPTS, pause, repeat, repeat_async
from featurestore.store.layout.backends.base import METADATA, Backend, Use
from featurestore.store.layout.writers import WRITERS

if TYPE_CHECKING:
    import obstore.store
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

_REQUESTS = 16
"""Objects that are asked for at once."""


class _PatientStore(ObjectStore["obstore.store.ObjectStore"]):
    """The same objects for Zarr."""

    @override
    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        return await repeat_async(lambda: super(_PatientStore, self).get(key, prototype, byte_range))

    @override
    async def set(self, key: str, value: Buffer) -> None:
        await repeat_async(lambda: super(_PatientStore, self).set(key, value))

    @override
    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        await repeat_async(lambda: super(_PatientStore, self).set_if_not_exists(key, value))


class ObjectFiles(Backend):
    """The objects below a prefix of a bucket.

    Args:
        connection: The bucket.
        read_only: Whether writes are refused.
    """

    failures = (BaseError, OSError)

    def __init__(self, connection: Connection, *, read_only: bool) -> None:
        self.place = connection.place
        self._objects: obstore.store.ObjectStore = connection.objects
        self.store = _PatientStore(connection.objects, read_only=read_only)

    @override
    def children(self, path: str) -> list[str]:
        found = repeat(lambda: self._objects.list_with_delimiter(path))
        paths = [*found["common_prefixes"], *(entry["path"] for entry in found["objects"])]
        return [name.rstrip("/").rpartition("/")[2] for name in paths]

    @override
    def has_chunks(self, path: str) -> bool:
        def look() -> bool:
            batches = self._objects.list(path)
            return any(entry["path"].rpartition("/")[2] != METADATA for batch in batches for entry in batch)

        return repeat(look)

    @override
    def is_vacant(self) -> bool:
        return not set(self.children("")) - {WRITERS}

    @override
    def partial_files(self) -> list[str]:
        return []  # an object is whole, or it is not there

    @override
    def read_files(self, keys: Sequence[str], n_bytes: int, use: Use) -> None:
        def read(number: int) -> None:
            data = self._get(keys[number])
            use(number, None if data is None else np.frombuffer(memoryview(data), dtype=np.uint8))

        with ThreadPoolExecutor(min(_REQUESTS, len(keys))) as pool:
            for _ in (pool.map if len(keys) > 1 else map)(read, range(len(keys))):
                pass  # raises what the thread raised

    @override
    def read_bytes(self, key: str) -> bytes | None:
        data = self._get(key)
        return None if data is None else data.to_bytes()

    @override
    def create_exclusive(self, key: str, data: bytes) -> bool:
        for attempt in range(ATTEMPTS):
            try:
                self._objects.put(key, data, mode="create")
            except AlreadyExistsError:
                found = self.read_bytes(key)
                if found is not None:
                    return found == data  # an earlier attempt, whose answer was lost, may have made it
            except GenericError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return True
            time.sleep(pause(attempt))
        return False  # others are at it

    @override
    def replace_bytes(self, key: str, data: bytes) -> None:
        repeat(lambda: self._objects.put(key, data))

    @override
    def delete_folder(self, path: str) -> None:
        def delete() -> None:
            for batch in self._objects.list(path, chunk_size=1000):
                self._objects.delete([entry["path"] for entry in batch])

        repeat(delete)

    @override
    def check_writable(self, key: str, data: bytes) -> None:
        self.replace_bytes(key, data)

    @override
    def explain(self, error: Exception, *, writing: bool) -> tuple[str, str]:
        return explain_refusal(error, self.place)

    def _get(self, key: str) -> obstore.Bytes | None:
        try:
            return repeat(lambda: self._objects.get(key).bytes())
        except FileNotFoundError:
            return None


def open_objects(url: str, *, read_only: bool) -> ObjectFiles:
    """The objects at a URL.

    Raises:
        StoreError: The bucket cannot be reached.
    """
    return ObjectFiles(connect(url), read_only=read_only)
