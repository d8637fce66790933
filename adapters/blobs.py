"""What the artifact store needs of a place for bytes, and that place on a local folder.

Keys are relative paths with `/`. Object storage is the other implementation, in `store`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from adapters.durable import (
    make_folders,
    move_into_place,
    scratch_folder,
    sweep_scratch,
    sync_file,
    sync_folder,
)
from adapters.errors import StoreUnavailable

CHUNK_BYTES = 4 * 1024**2


class BlobMissing(Exception):
    """The place answered: nothing has this key."""


class Blobs(Protocol):
    """Whole-object storage. Every method raises `StoreUnavailable` when it does not answer."""

    url: str

    async def put_file(self, key: str, source: Path) -> None:
        """Store a file's bytes under a key, all or nothing, replacing what was there."""

    async def put_bytes(self, key: str, data: bytes) -> None:
        """Store bytes under a key, all or nothing; durable when it returns."""

    def stream(self, key: str) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces; raises `BlobMissing` at the first one."""

    def entries(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all keys under a prefix that ends with `/`."""

    async def delete(self, key: str) -> None:
        """Remove a key; absent is fine."""


class LocalBlobs:
    """Blobs in a folder. What was put is on the disk, names included, when `put_*` returns."""

    def __init__(self, root: Path) -> None:
        self.url = root.as_uri()
        self._root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
            # A reader, such as an engine's pod, leaves what a killed writer left to the writers.
            if os.access(root, os.W_OK):
                sweep_scratch(root)
        except OSError as exc:
            raise StoreUnavailable(url=self.url, reason=str(exc)) from exc

    async def put_file(self, key: str, source: Path) -> None:
        """See `Blobs`."""
        await asyncio.to_thread(self._put, key, source)

    async def put_bytes(self, key: str, data: bytes) -> None:
        """See `Blobs`."""
        await asyncio.to_thread(self._put, key, data)

    def _put(self, key: str, source: Path | bytes) -> None:
        target = self._root / key
        try:
            with scratch_folder(self._existing_root()) as scratch:
                copy = scratch / "blob"
                _write(copy, source)
                copy.chmod(0o444)
                sync_file(copy)
                make_folders(target.parent, below=self._root)
                move_into_place(copy, target)
        except OSError as exc:
            raise StoreUnavailable(url=self.url, reason=str(exc)) from exc

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        """See `Blobs`."""
        try:
            file = await asyncio.to_thread(open, self._existing_root() / key, "rb")
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise BlobMissing(key) from exc
        except OSError as exc:
            raise StoreUnavailable(url=self.url, reason=str(exc)) from exc
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk

    async def entries(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """See `Blobs`."""
        for item in await asyncio.to_thread(self._entries, prefix):
            yield item

    def _entries(self, prefix: str) -> list[tuple[str, int]]:
        base = self._existing_root() / prefix
        found = []
        for folder, _, names in os.walk(base):
            for name in names:
                path = Path(folder) / name
                with suppress(FileNotFoundError):  # deleted meanwhile
                    size = path.stat().st_size
                    found.append((path.relative_to(self._root).as_posix(), size))
        return sorted(found)

    async def delete(self, key: str) -> None:
        """See `Blobs`."""
        await asyncio.to_thread(self._delete, key)

    def _delete(self, key: str) -> None:
        path = self._existing_root() / key
        try:
            path.unlink(missing_ok=True)
            if path.parent.is_dir():
                sync_folder(path.parent)
                with suppress(OSError):  # not empty yet
                    path.parent.rmdir()
        except OSError as exc:
            raise StoreUnavailable(url=self.url, reason=str(exc)) from exc

    def _existing_root(self) -> Path:
        # A disk that is not mounted must not look like a store without artifacts.
        if not self._root.is_dir():
            raise StoreUnavailable(url=self.url, reason="the store's folder is gone")
        return self._root


def _write(target: Path, source: Path | bytes) -> None:
    with target.open("xb") as out:
        if isinstance(source, bytes):
            out.write(source)
            return
        with source.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                out.write(chunk)
