"""Content-addressed artifact store: local folder, S3, GCS or Azure. The only importer of obstore.

An artifact lies under `sha256/<2 hex>/<hex>/`; its manifest is written last and deleted first, so
an artifact is there exactly when its manifest is. Unreachable is never told as absent.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import ObjectStore, from_url

from adapters.blobs import CHUNK_BYTES, BlobMissing, Blobs, LocalBlobs
from adapters.durable import (
    move_into_place,
    remove_folder,
    scratch_folder,
    sweep_scratch,
    sync_folder,
)
from adapters.errors import (
    ArtifactNotFound,
    DigestMismatch,
    ManifestInvalid,
    StoreUnavailable,
)
from adapters.identity import Digest, parse_digest
from adapters.manifest import (
    MAX_MANIFEST_BYTES,
    Manifest,
    ManifestFile,
    hash_file,
    manifest_of_folder,
    parse_manifest,
)
from adapters.results import ResultStore

MANIFEST_NAME = "manifest.json"
_RETRY: dict[str, Any] = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}


def folder_name(digest: str) -> str:
    """Name of the folder that `fetch` makes: `sha256-<hex>`."""
    return parse_digest(digest).replace(":", "-")


def verified_folder(digest: str, parent: Path) -> Path | None:
    """The fetched folder of an artifact, if it is there and every byte is right; needs no store.

    A folder with other bytes is removed. Blocks while it reads; use a thread from a coroutine.
    """
    folder = parent / folder_name(digest)
    if not folder.is_dir():
        return None
    try:
        if manifest_of_folder(folder).digest == digest:
            return folder
    except (ManifestInvalid, OSError):
        pass
    with scratch_folder(parent) as scratch:
        # Renamed first: nobody may see a folder of this name that is being emptied.
        folder.rename(scratch / "spoilt")
        remove_folder(scratch / "spoilt")
    return None


class ArtifactStore:
    """Artifacts by digest. Safe to use from several processes at once."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Open `file:///folder` (made when absent), `s3://bucket/prefix`, `gs://...` or `az://...`.

        Credentials come from the environment or `options`, which go to obstore (`region`,
        `endpoint`, `client_options`, `retry_config`, ...).

        Raises:
            StoreUnavailable: the folder cannot be made, or the URL or options are not legal.
        """
        parts = urlsplit(url)
        if parts.scheme == "file":
            return cls(LocalBlobs(Path(unquote(parts.path))))
        try:
            remote = from_url(url, **{"retry_config": _RETRY, **options})
        except (BaseError, ValueError) as exc:
            raise StoreUnavailable(url=url, reason=str(exc)) from exc
        return cls(_RemoteBlobs(remote, url))

    @property
    def url(self) -> str:
        """Where the store is; carries no credentials."""
        return self._blobs.url

    @property
    def results(self) -> ResultStore:
        """What was computed from artifacts, kept in the same place."""
        return ResultStore(self._blobs)

    async def put(self, manifest: Manifest, folder: Path) -> Digest:
        """Keep the files of `folder` that `manifest` lists; a second time does nothing.

        Durable when it returns; a crash before leaves nothing that counts as an artifact.

        Raises:
            DigestMismatch: a file of the folder is not the manifest's.
            StoreUnavailable: the store does not answer.
        """
        digest = manifest.digest
        if await self._is_complete(manifest):
            return digest
        for file in manifest.files:
            found = await asyncio.to_thread(hash_file, folder / file.name)
            _check_bytes(file, found)
            await self._blobs.put_file(_key(digest, file.name), folder / file.name)
        await self._blobs.put_bytes(_key(digest, MANIFEST_NAME), manifest.encode())
        return digest

    async def _is_complete(self, manifest: Manifest) -> bool:
        prefix = _key(manifest.digest, "")
        sizes = {key.removeprefix(prefix): size async for key, size in self._blobs.entries(prefix)}
        return MANIFEST_NAME in sizes and all(
            sizes.get(file.name) == file.size_bytes for file in manifest.files
        )

    async def manifest(self, digest: str) -> Manifest:
        """The manifest of an artifact, checked against the digest.

        Raises:
            ArtifactNotFound: the store answered that it has none.
            DigestMismatch: what is stored is another's, or no manifest.
            StoreUnavailable: the store does not answer.
        """
        data = bytearray()
        try:
            async for chunk in self._blobs.stream(_key(digest, MANIFEST_NAME)):
                data += chunk
                if len(data) > MAX_MANIFEST_BYTES:
                    break
            manifest = parse_manifest(bytes(data))
        except BlobMissing as exc:
            raise ArtifactNotFound(digest=digest) from exc
        except ManifestInvalid as exc:
            raise DigestMismatch(expected=digest, found=str(exc), file=MANIFEST_NAME) from exc
        if manifest.digest != digest:
            raise DigestMismatch(expected=digest, found=manifest.digest, file=MANIFEST_NAME)
        return manifest

    async def contains(self, digest: str) -> bool:
        """Whether the artifact is there.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        try:
            await self.manifest(digest)
        except ArtifactNotFound:
            return False
        return True

    async def fetch(
        self, digest: str, into_parent: Path, *, manifest: Manifest | None = None
    ) -> Path:
        """Bring an artifact into `into_parent/sha256-<hex>/`, read-only; returns that folder.

        The folder appears at once and complete, or not at all. One that is already there is read
        again and, when its bytes are right, used without asking the store. A `manifest` that the
        caller has saves reading it.

        Raises:
            ArtifactNotFound, DigestMismatch, StoreUnavailable: as `manifest`; also for each file.
            OSError: `into_parent` cannot be written.
        """
        await asyncio.to_thread(into_parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(sweep_scratch, into_parent)
        present = await asyncio.to_thread(verified_folder, digest, into_parent)
        if present is not None:
            return present
        manifest = manifest or await self.manifest(digest)
        if manifest.digest != digest:
            raise DigestMismatch(expected=digest, found=manifest.digest)
        with scratch_folder(into_parent) as scratch:
            for file in manifest.files:
                await self._fetch_file(digest, file, scratch / file.name)
            return await asyncio.to_thread(_publish, scratch, digest, into_parent)

    async def _fetch_file(self, digest: str, file: ManifestFile, target: Path) -> None:
        hasher, size = hashlib.sha256(), 0
        try:
            with await asyncio.to_thread(target.open, "xb") as out:
                async for chunk in self._blobs.stream(_key(digest, file.name)):
                    size += len(chunk)
                    if size > file.size_bytes:
                        break
                    await asyncio.to_thread(_append, out, hasher, chunk)
                await asyncio.to_thread(_finish, out)
        except BlobMissing as exc:
            raise ArtifactNotFound(digest=digest) from exc
        _check_bytes(file, (size, hasher.hexdigest()))

    async def delete(self, digest: str) -> None:
        """Remove an artifact; absent is fine. Its manifest goes first.

        Raises:
            StoreUnavailable: the store does not answer; some files may be left, but no artifact.
        """
        prefix = _key(digest, "")
        keys = [key async for key, _ in self._blobs.entries(prefix)]
        await self._blobs.delete(prefix + MANIFEST_NAME)
        for key in keys:
            await self._blobs.delete(key)

    async def list(self) -> AsyncIterator[Digest]:
        """Digests of all artifacts, in no particular order.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        async for key, _ in self._blobs.entries("sha256/"):
            parts = key.split("/")
            if len(parts) == 4 and parts[3] == MANIFEST_NAME:
                yield parse_digest(f"sha256:{parts[2]}")


def _key(digest: str, name: str) -> str:
    hexadecimal = parse_digest(digest).removeprefix("sha256:")
    return f"sha256/{hexadecimal[:2]}/{hexadecimal}/{name}"


def _check_bytes(file: ManifestFile, found: tuple[int, str]) -> None:
    if found != (file.size_bytes, file.sha256):
        raise DigestMismatch(expected=file.sha256, found=found[1], file=file.name)


def _append(out: BinaryIO, hasher: Any, chunk: bytes) -> None:
    hasher.update(chunk)
    out.write(chunk)


def _finish(out: BinaryIO) -> None:
    out.flush()
    os.fchmod(out.fileno(), 0o444)
    os.fsync(out.fileno())


def _publish(scratch: Path, digest: str, parent: Path) -> Path:
    target = parent / folder_name(digest)
    scratch.chmod(0o555)
    sync_folder(scratch)
    try:
        move_into_place(scratch, target)
    except OSError:
        # Another fetch of the same artifact was faster: its folder is as good, once checked.
        present = verified_folder(digest, parent)
        if present is None:
            raise
        return present
    return target


class _RemoteBlobs:
    """Blobs in an object store. Puts are atomic there, and durable when they return."""

    def __init__(self, remote: ObjectStore, url: str) -> None:
        self.url = url
        self._remote = remote

    async def put_file(self, key: str, source: Path) -> None:
        try:
            await obstore.put_async(self._remote, key, source)
        except BaseError as exc:
            raise self._unavailable(exc) from exc

    async def put_bytes(self, key: str, data: bytes) -> None:
        try:
            await obstore.put_async(self._remote, key, data)
        except BaseError as exc:
            raise self._unavailable(exc) from exc

    async def stream(self, key: str) -> AsyncIterator[bytes]:
        try:
            result = await obstore.get_async(self._remote, key)
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except (NotFoundError, FileNotFoundError) as exc:
            await self._require_answer()
            raise BlobMissing(key) from exc
        except BaseError as exc:
            raise self._unavailable(exc) from exc

    async def _require_answer(self) -> None:
        # A missing bucket is "not found" too; only a bucket that can be listed has spoken.
        async for _ in self.entries("sha256/"):
            return

    async def entries(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        try:
            async for batch in obstore.list(self._remote, prefix=prefix.rstrip("/")):
                for item in batch:
                    if item["path"].startswith(prefix):
                        yield item["path"], item["size"]
        except (BaseError, FileNotFoundError) as exc:
            raise self._unavailable(exc) from exc

    async def delete(self, key: str) -> None:
        try:
            await obstore.delete_async(self._remote, key)
        except (NotFoundError, FileNotFoundError):
            return
        except BaseError as exc:
            raise self._unavailable(exc) from exc

    def _unavailable(self, exc: Exception) -> StoreUnavailable:
        return StoreUnavailable(url=self.url, reason=f"{type(exc).__name__}: {exc}"[:500])
