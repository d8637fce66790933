"""Uploads under way: their folders, how many at once, and the way of the bytes into the store."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from pathlib import Path

from adapters.archive import unpack
from adapters.limits import ArchiveLimits
from adapters.manifest import Manifest, build_manifest, manifest_of_folder
from adapters.store import ArtifactStore
from serving.controller.errors import UploadsBusy
from serving.controller.upload_form import ARCHIVE, FormKind, UploadForm

_BATCH_BYTES = 1024**2
"""Bytes that are taken from the network before they are parsed and written in a thread."""
_RETRY_AFTER_SECONDS = 5


class Uploads:
    """The uploads of one controller process."""

    def __init__(self, root: Path, *, max_bytes: int, max_concurrent: int) -> None:
        self._root, self._max_bytes = root, max_bytes
        self._max_concurrent, self._n_running = max_concurrent, 0
        self._own = root / uuid.uuid4().hex
        self._lock: int | None = None

    def open(self) -> None:
        """Make this process's folder, and remove those of processes that have died."""
        self._root.mkdir(parents=True, exist_ok=True)
        # One process at a time: none may look at a folder that is not locked yet.
        with (self._root / ".lock").open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            self._own.mkdir()
            self._lock = os.open(self._own / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            for folder in self._root.iterdir():
                if folder.is_dir() and folder != self._own and _is_abandoned(folder):
                    shutil.rmtree(folder, ignore_errors=True)

    def close(self) -> None:
        """Remove this process's folder."""
        shutil.rmtree(self._own, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[Path]:
        """A folder for one upload, removed afterwards.

        Raises:
            UploadsBusy: as many as allowed are running.
        """
        if self._n_running >= self._max_concurrent:
            raise UploadsBusy(limit=self._max_concurrent, retry_after_seconds=_RETRY_AFTER_SECONDS)
        self._n_running += 1
        folder = self._own / uuid.uuid4().hex
        try:
            folder.mkdir()
            yield folder
        finally:
            self._n_running -= 1
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def receive(
        self,
        content_type: str,
        body: AsyncIterable[bytes],
        folder: Path,
        *,
        kind: FormKind | None = None,
    ) -> UploadForm:
        """Write the form's files into `folder` while the body arrives; an adapter's by default.

        Raises:
            ArtifactTooLarge, UploadMalformed: see `UploadForm`.
        """
        form = UploadForm(content_type, folder, max_bytes=self._max_bytes, kind=kind)
        try:
            async for batch in _batches(body):
                await asyncio.to_thread(form.feed, batch)
            await asyncio.to_thread(form.finish)
        finally:
            await asyncio.to_thread(form.close)
        return form

    async def keep(self, form: UploadForm, folder: Path, store: ArtifactStore) -> Manifest:
        """Put the artifact into the store; it is durable when this returns.

        Raises:
            ArchiveRefused, ArtifactTooLarge, ManifestInvalid: what was sent is no artifact.
            StoreUnavailable: the store does not answer.
        """
        if ARCHIVE in form.files:
            manifest, folder = await asyncio.to_thread(self._unpack, folder)
        else:
            manifest = build_manifest(form.files.values())
        await store.put(manifest, folder)
        return manifest

    def _unpack(self, folder: Path) -> tuple[Manifest, Path]:
        unpacked = folder / "unpacked"
        unpacked.mkdir()
        unpack(folder / ARCHIVE, unpacked, ArchiveLimits(max_total_bytes=self._max_bytes))
        return manifest_of_folder(unpacked), unpacked


async def _batches(body: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    async for chunk in body:
        waiting.append(chunk)
        size += len(chunk)
        if size >= _BATCH_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if size:
        yield b"".join(waiting)


def _is_abandoned(folder: Path) -> bool:
    """Whether no living process holds the folder's lock; the kernel lets go of a dead one's."""
    try:
        descriptor = os.open(folder / ".lock", os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)
