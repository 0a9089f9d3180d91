"""Storage: one Zarr hierarchy on a local disk or an object store, with errors that a user understands."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import unquote, urlsplit

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.codecs import BytesCodec, Crc32cCodec
from zarr.core.array_spec import ArrayConfigParams
from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.core.group import GroupMetadata
from zarr.core.metadata import ArrayV3Metadata
from zarr.core.sync import sync
from zarr.errors import ContainsArrayError, ContainsGroupError, NodeTypeValidationError
from zarr.storage import MemoryStore

from featurestore.errors import CorruptStoreError, MissingDependencyError, StoreError, StoreWriteError
from featurestore.store.layout.backends.base import METADATA, Backend, Use
from featurestore.store.layout.backends.local import LocalFiles
from featurestore.store.layout.writers import WRITERS, WriterMark, find_owned

_CONFIG: ArrayConfigParams = {"write_empty_chunks": True}
"""A block of zeros is written like any other: that a chunk exists means that it was committed."""

_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError)
"""What Zarr raises of metadata that are not what they should be."""


def repair_hint(store: str) -> str:
    """What to do about damage in the store at that path."""
    return f"Run: {shlex.join(['skyprobe', 'verify', '--repair', '--store', store])}. Then extract again."


class ArraySpec(NamedTuple):
    """What an array looks like, whatever number of rows it has room for.

    Attributes:
        dtype: Type of the values.
        chunks: Shape of a chunk: some rows, and a whole row in every other dimension.
        dimensions: Their names.
        fill_value: What rows are that were never written.
    """

    dtype: str
    chunks: tuple[int, ...]
    dimensions: Sequence[str]
    fill_value: float = 0

    def shape(self, rows: int) -> tuple[int, ...]:
        """Shape of an array with room for so many rows."""
        return rows, *self.chunks[1:]


class Storage:
    """Groups, arrays and raw chunks below one root.

    Args:
        path: A folder, or a URL such as ``s3://bucket/store.zarr``.
        read_only: Whether writes are refused.

    Raises:
        UsageError: A URL of something else than an object store.
        MissingDependencyError: What reaches object stores is not installed.
        StoreError: The object store does not answer, or there is no such bucket.
    """

    def __init__(self, path: str, *, read_only: bool) -> None:
        self.path = path
        self.read_only = read_only
        self._files = _open_files(path, read_only)
        self._store = self._files.store
        self._mark = WriterMark(partial(_put_mark, self._files), self._files.delete_folder)

    def where(self, path: str) -> str:
        """Full path of a node, for messages."""
        return f"{self._files.place.rstrip('/')}/{path}".rstrip("/")

    def corrupt(self, what: str, path: str) -> CorruptStoreError:
        """The error of something damaged at `path`, whose hint is the command that mends it."""
        return CorruptStoreError(what, where=self.where(path), hint=repair_hint(self.path))

    def attributes(self, path: str) -> dict[str, Any] | None:
        """Attributes of the group at `path` as they are now; None where there is none.

        Raises:
            CorruptStoreError: Its metadata cannot be understood.
        """
        group = self._group(path)
        return None if group is None else cast("dict[str, Any]", group.attrs.asdict())

    def require_group(self, path: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Make the group at `path` with these attributes, if it does not exist."""
        if self._group(path) is None:
            # Another process may be faster: then its group is the one.
            with self.writing(path), suppress(ContainsGroupError):
                zarr.open_group(self._store, path=path, mode="a", zarr_format=3, attributes=dict(attributes or {}))

    def set_attributes(self, path: str, attributes: Mapping[str, Any]) -> None:
        """Add attributes to the group at `path`, which is made if need be: one atomic write."""
        self.require_group(path)
        group = self._group(path)
        if group is not None:
            with self.writing(path):
                group.update_attributes(dict(attributes))

    def _group(self, path: str) -> zarr.Group | None:
        with self._reading(path):
            try:
                return zarr.open_group(self._store, path=path, mode="r" if self.read_only else "r+", zarr_format=3)
            except (FileNotFoundError, FileExistsError, NodeTypeValidationError, ContainsArrayError):
                return None

    def array(self, path: str) -> zarr.Array[Any] | None:
        """The array at `path`, or None.

        Raises:
            CorruptStoreError: Its metadata cannot be understood.
        """
        with self._reading(path):
            try:
                return self._open_array(path)
            except (FileNotFoundError, NodeTypeValidationError):
                return None

    def array_attributes(self, path: str) -> dict[str, Any]:
        """Attributes of the array at `path`; none where there is no array."""
        array = self.array(path)
        return {} if array is None else cast("dict[str, Any]", array.attrs.asdict())

    def set_array_attributes(self, path: str, attributes: Mapping[str, Any]) -> None:
        """Add attributes to an array: one atomic write."""
        with self.writing(path):
            self._open_array(path).update_attributes(dict(attributes))

    def has_chunks(self, path: str) -> bool:
        """Whether any file but metadata lies below `path`."""
        with self._reaching(path):
            return self._files.has_chunks(path)

    def require_array(
        self,
        path: str,
        shape: tuple[int, ...],
        dtype: str,
        chunks: tuple[int, ...],
        dimensions: Sequence[str],
        fill_value: float = 0,
    ) -> zarr.Array[Any]:
        """The array at `path`, made if it does not exist: uncompressed chunks, each with its checksum.

        Metadata that is lost or unreadable is written anew; chunks are kept.
        """
        spec = ArraySpec(dtype, chunks, dimensions, fill_value)
        try:
            found = self.array(path)
        except CorruptStoreError:
            self.rewrite_array(path, shape, spec)
            return self._open_array(path)
        if found is not None:
            return found
        with self.writing(path):
            try:
                return _create_array(self._store, path, shape, spec)
            except ContainsGroupError:  # what makes it an array is lost
                self.rewrite_array(path, shape, spec)
                return self._open_array(path)
            except ContainsArrayError:  # another process was faster
                return self._open_array(path)

    def rewrite_array(self, path: str, shape: tuple[int, ...], spec: ArraySpec) -> None:
        """Write the metadata of an array anew; its chunks stay as they are."""
        with self.writing(path):
            _put_metadata(
                self._store, path, cast("ArrayV3Metadata", _create_array(MemoryStore(), "x", shape, spec).metadata)
            )

    def rewrite_group(self, path: str, attributes: Mapping[str, Any]) -> None:
        """Write the metadata of a group anew; what is below it stays as it is."""
        with self.writing(path):
            _put_group(self._store, path, attributes)

    def is_like(self, path: str, spec: ArraySpec) -> bool:
        """Whether an array with intact metadata looks like this: type, rows, chunks, codecs, names of dimensions."""
        found = self.array(path)
        if found is None or len(found.shape) != len(spec.chunks):
            return False
        expected = _create_array(MemoryStore(), "x", spec.shape(found.shape[0]), spec)
        return bool(_describe(found) == _describe(expected))

    def put_array(self, path: str, values: NDArray[Any], dimensions: Sequence[str]) -> None:
        """Write a whole small array as one chunk."""
        chunks = tuple(max(1, size) for size in values.shape)
        array = self.require_array(path, values.shape, values.dtype.str, chunks, dimensions)
        with self.writing(path):
            array[...] = values

    def get_array(self, path: str) -> NDArray[Any]:
        """Read a whole array.

        Raises:
            CorruptStoreError: It is absent or damaged. An empty chunk file reads as zeros: compare a digest.
        """
        array = self.array(path)
        if array is None:
            raise self.corrupt("an array is missing", path)
        with self._reading(path):
            return np.asarray(array[...])

    def children(self, path: str) -> list[str]:
        """Sorted names of what is directly below `path`."""
        with self._reaching(path):
            return sorted(name for name in self._files.children(path) if name != METADATA)

    def is_vacant(self) -> bool:
        """Whether there is nothing at the root, leftovers of a killed process aside."""
        with self._reaching(""):
            return self._files.is_vacant()

    def owners(self) -> dict[str, str]:
        """What other writers are writing to at this moment, and who they are; see `layout.writers`."""
        owners: dict[str, str] = {}
        for name in self._other_marks():
            owners |= self._owned_by(name)
        return owners

    def sweep_marks(self) -> None:
        """Delete the marks of writers that are gone."""
        for path in self.expired_marks():
            self.delete(path)

    def expired_marks(self) -> list[str]:
        """Paths of the marks of writers that are gone."""
        marks = [(name, f"{WRITERS}/{name}") for name in self._other_marks()]
        # one without attributes is just being written
        return [path for name, path in marks if self.attributes(path) and not self._owned_by(name)]

    def end_writing(self) -> None:
        """Take back the mark that says that this process is writing; the next write puts it back."""
        self._mark.remove()

    def _other_marks(self) -> list[str]:
        return [name for name in self.children(WRITERS) if name != self._mark.name]

    def _owned_by(self, name: str) -> dict[str, str]:
        try:
            return find_owned(self.attributes(f"{WRITERS}/{name}") or {}, time.time())
        except CorruptStoreError:
            return {}

    def partial_files(self) -> list[str]:
        """Sorted keys of unfinished files that killed processes left; an object store never has any."""
        with self._reaching(""):
            names = sorted(self._files.partial_files())
        return [name for name in names if not name.startswith(f"{WRITERS}/")]  # a mark is not marked

    def read_files(self, keys: Sequence[str], n_bytes: int, use: Use) -> None:
        """Read files, and hand each to `use` in the thread that read it, while its bytes are in the cache.

        Args:
            keys: The files.
            n_bytes: Bytes that a file should have: the size of the buffer it is read into. Other files work, slower.
            use: Called with the position in `keys` and the bytes, None for a file that does not exist; in no order.
                The bytes are valid only during the call.
        """
        if keys:
            with self._reaching(keys[0]):
                self._files.read_files(keys, n_bytes, use)

    def read_bytes(self, key: str) -> bytes | None:
        """All of a file; None where there is none."""
        with self._reaching(key):
            return self._files.read_bytes(key)

    def create_exclusive(self, key: str, data: bytes) -> bool:
        """Write a file that does not exist yet: of all who try at once, one is told that it did.

        Args:
            key: The file; it is whole as soon as it is there.
            data: Its bytes, which must differ from what anybody else would write there: where an answer of an object
                store is lost, they tell whose the file is.

        Returns:
            Whether this call made the file.
        """
        with self.writing(key):
            return self._files.create_exclusive(key, data)

    def replace_bytes(self, key: str, data: bytes) -> None:
        """Write a whole file, whatever stood there: a reader sees the old bytes or the new."""
        with self.writing(key):
            self._files.replace_bytes(key, data)

    def check_writable(self) -> None:
        """Raise StoreWriteError where the store cannot be written."""
        with self.writing(""):
            self._files.check_writable(f"{WRITERS}/{METADATA}", _to_buffer(GroupMetadata(zarr_format=3)).to_bytes())

    def delete(self, path: str) -> None:
        """Delete a group or array with everything below it; another process may do the same."""
        with self.writing(path):
            self._files.delete_folder(path)

    def delete_file(self, key: str) -> None:
        """Delete one file, if it exists."""
        with self.writing(key):
            sync(self._store.delete(key))

    @contextmanager
    def writing(self, path: str) -> Iterator[None]:
        """Turn a refused or failed write into StoreWriteError."""
        if self.read_only:
            raise StoreWriteError(
                "the store was opened for reading",
                where=self.where(path),
                hint='Open it for writing: open_store(path, mode="a").',
            )
        try:
            self._mark.touch(path)
            yield
        except self._files.failures as error:
            reason, hint = self._files.explain(error, writing=True)
            raise StoreWriteError(
                f"the store cannot be written: {reason}", where=self.where(path), hint=hint
            ) from error

    def _open_array(self, path: str) -> zarr.Array[Any]:
        mode = "r" if self.read_only else "r+"
        return zarr.open_array(self._store, path=path, mode=mode, zarr_format=3).with_config(_CONFIG)

    @contextmanager
    def _reading(self, path: str) -> Iterator[None]:
        """Turn whatever is wrong with metadata into CorruptStoreError."""
        try:
            with self._reaching(path):
                yield
        except _MALFORMED as error:
            raise self.corrupt(f"unreadable data: {error}", path) from error

    @contextmanager
    def _reaching(self, path: str) -> Iterator[None]:
        """Turn a file system that refuses into StoreError; that something is absent is for the caller to judge."""
        try:
            yield
        except (FileNotFoundError, FileExistsError):
            raise
        except self._files.failures as error:
            reason, hint = self._files.explain(error, writing=False)
            where = getattr(error, "filename", None) or self.where(path)
            raise StoreError(f"the store cannot be read: {reason}", where=where, hint=hint) from error


def _create_array(store: Store, path: str, shape: tuple[int, ...], spec: ArraySpec) -> zarr.Array[Any]:
    return zarr.create_array(
        store,
        name=path,
        shape=shape,
        dtype=spec.dtype,
        chunks=spec.chunks,
        serializer=BytesCodec(endian="little"),
        compressors=Crc32cCodec(),
        filters=None,
        fill_value=spec.fill_value,
        dimension_names=tuple(spec.dimensions),
        config=_CONFIG,
    )


def _put_group(store: Store, path: str, attributes: Mapping[str, Any]) -> None:
    _put_metadata(store, path, GroupMetadata(attributes=dict(attributes), zarr_format=3))


def _put_mark(files: Backend, path: str, attributes: Mapping[str, Any]) -> None:
    """Write a mark, or the group of all marks if it does not exist."""
    if path != WRITERS or files.read_bytes(f"{path}/{METADATA}") is None:
        _put_group(files.store, path, attributes)


def _put_metadata(store: Store, path: str, metadata: ArrayV3Metadata | GroupMetadata) -> None:
    """Write the metadata of one node: one atomic write, whatever was there."""
    sync(store.set(f"{path}/{METADATA}".lstrip("/"), _to_buffer(metadata)))


def _to_buffer(metadata: ArrayV3Metadata | GroupMetadata) -> Buffer:
    return metadata.to_buffer_dict(default_buffer_prototype())[METADATA]


def _describe(array: zarr.Array[Any]) -> Any:
    """The metadata of an array as JSON has it, attributes aside."""
    text = _to_buffer(cast("ArrayV3Metadata", array.metadata)).to_bytes()
    return {name: value for name, value in json.loads(text).items() if name != "attributes"}


def _open_files(path: str, read_only: bool) -> Backend:
    """What keeps the files at a path: a folder, a ``file:`` URL, or an object store."""
    if path.startswith("file:"):
        path = unquote(urlsplit(path).path)
    if "://" not in path:
        return LocalFiles(Path(path).expanduser(), read_only=read_only)
    try:
        from featurestore.store.layout.backends.objects import open_objects

        return open_objects(path, read_only=read_only)
    except ImportError as error:
        raise MissingDependencyError(
            f"a library for object stores is not installed: {error}",
            where=path,
            hint="Install it: pip install 'skyprobe[s3]'.",
        ) from error
