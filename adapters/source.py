"""Fetches an adapter's files from where its owner put them. With `store`, the door to obstore.

Only the files of an artifact, or one archive, are ever asked for, by name: nothing is listed, and
nothing that lies beside them is read. Credentials given with a source stand alone: they are not
mixed with those of this process.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Self

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnknownConfigurationKeyError,
)
from obstore.store import ObjectStore, from_url

from adapters.archive import unpack
from adapters.limits import ArchiveLimits
from adapters.manifest import ARTIFACT_FILES, REQUIRED_FILES
from adapters.source_credentials import store_options
from adapters.source_errors import (
    SourceForbidden,
    SourceInvalid,
    SourceNotFound,
    SourceTooLarge,
    SourceUnreachable,
)
from adapters.source_folder import FolderPlace
from adapters.source_place import CHUNK_BYTES, Place, Stamp
from adapters.source_uri import SourceUri, parse_source_uri

_RETRY: dict[str, Any] = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
_CLIENT: dict[str, Any] = {
    "connect_timeout": timedelta(seconds=10),
    "read_timeout": timedelta(seconds=30),
    # For a whole file; `read_timeout` finds a dead connection long before.
    "timeout": timedelta(minutes=30),
}
_QUERY = re.compile(r"\?[^\s\"')]*")
_DURATION = re.compile(r" (in|after|elapsed:?) [0-9.]+ ?(ns|µs|us|ms|s)\b")
_MAX_REASON = 300
_GRACE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """An artifact's files in a folder, and the mark of the source that they came from."""

    folder: Path
    mark: str


class AdapterSource:
    """One place that an adapter can be fetched from."""

    def __init__(self, uri: SourceUri, place: Place) -> None:
        """Use `open`."""
        self.uri, self._place = uri, place

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        credentials: Mapping[str, str] | None = None,
        folders: Sequence[Path] = (),
        retry: Mapping[str, Any] | None = None,
    ) -> Self:
        """Nothing is asked of the place yet.

        `credentials`: see `source_credentials`; None: those of this process's environment.
        `folders`: below which `file` sources are allowed. `retry`: obstore's `retry_config`.

        Raises:
            SourceInvalid: the URI or the credentials are not legal.
            SourceForbidden: a `file` source outside of `folders`.
        """
        parsed = parse_source_uri(uri)
        if parsed.scheme == "file":
            if credentials is not None:
                raise SourceInvalid(problem="a file source takes no credentials")
            return cls(parsed, FolderPlace.allowed(parsed, folders))
        remote = _open_remote(parsed, credentials, retry or _RETRY)
        secrets = tuple((credentials or {}).values())
        return cls(parsed, _RemotePlace(remote, str(parsed), secrets))

    async def mark(self) -> str:
        """Tells two contents of the source apart, by sizes and tags, without reading the files.

        Raises:
            SourceNotFound, SourceForbidden, SourceUnreachable
        """
        return _mark(await self._stamps())

    async def fetch(
        self, into: Path, *, max_bytes: int, min_bytes_per_second: int | None = None
    ) -> Fetched:
        """Bring the files into the existing folder `into`; blocks no event loop.

        On an error `into` may hold a part of them. `min_bytes_per_second`: over all files, but for
        a minute that each source may take besides.

        Raises:
            SourceNotFound, SourceForbidden
            SourceUnreachable: it did not answer, changed meanwhile, or is slower than that.
            SourceTooLarge: all files together have more than `max_bytes`.
            ArchiveRefused, ArtifactTooLarge: the archive holds no adapter, or is not safe.
        """
        stamps = await self._stamps()
        total = sum(stamp.size_bytes for stamp in stamps.values())
        if total > max_bytes:
            raise SourceTooLarge(uri=str(self.uri), limit=max_bytes, found=total)
        seconds = _GRACE_SECONDS + total / min_bytes_per_second if min_bytes_per_second else None
        try:
            async with asyncio.timeout(seconds):
                for name, stamp in stamps.items():
                    await self._fetch_file(name, stamp, into / name)
        except TimeoutError as exc:
            reason = f"it gives less than {min_bytes_per_second} bytes each second"
            raise SourceUnreachable(uri=str(self.uri), reason=reason) from exc
        if not self.uri.is_archive:
            return Fetched(into, _mark(stamps))
        unpacked = into / "unpacked"
        limits = ArchiveLimits(max_total_bytes=max_bytes)
        await asyncio.to_thread(_unpack, into / self.uri.parts[-1], unpacked, limits)
        return Fetched(unpacked, _mark(stamps))

    async def _stamps(self) -> dict[str, Stamp]:
        is_archive = self.uri.is_archive
        names = [self.uri.parts[-1]] if is_archive else sorted(ARTIFACT_FILES)
        required = frozenset(names) if is_archive else REQUIRED_FILES
        stamps = {}
        for name in names:
            stamp = await self._place.stamp(name)
            if stamp is not None:
                stamps[name] = stamp
            elif name in required:
                raise SourceNotFound(uri=str(self.uri), file=name)
        return stamps

    async def _fetch_file(self, name: str, stamp: Stamp, target: Path) -> None:
        size = 0
        with await asyncio.to_thread(target.open, "xb") as out:
            async for chunk in self._place.stream(name, stamp):
                size += len(chunk)
                if size > stamp.size_bytes:
                    break
                await asyncio.to_thread(_append, out, chunk)
        if size != stamp.size_bytes:
            reason = f"{name} has not the {stamp.size_bytes} bytes that were announced"
            raise SourceUnreachable(uri=str(self.uri), reason=reason)


def _append(out: BinaryIO, chunk: bytes) -> None:
    out.write(chunk)


def _unpack(archive: Path, into: Path, limits: ArchiveLimits) -> None:
    into.mkdir()
    unpack(archive, into, limits)


def _mark(stamps: Mapping[str, Stamp]) -> str:
    lines = (f"{name} {stamp.size_bytes} {stamp.tag}\n" for name, stamp in sorted(stamps.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _open_remote(
    uri: SourceUri, credentials: Mapping[str, str] | None, retry: Mapping[str, Any]
) -> ObjectStore:
    given = {} if credentials is None else store_options(uri.scheme, credentials)
    client = {**_CLIENT, **given.pop("client_options", {})}
    options: dict[str, Any] = {**given, "client_options": client, "retry_config": {**retry}}
    parts = uri.parts[:-1] if uri.is_archive else uri.parts
    url = "/".join([f"{uri.scheme}://{uri.bucket}", *(part.replace(" ", "%20") for part in parts)])
    try:
        return from_url(url, **options)
    except (BaseError, UnknownConfigurationKeyError, ValueError) as exc:
        # What the library says here may quote a key that is not well-formed.
        problem = f"credentials or bucket are not legal ({type(exc).__name__})"
        raise SourceInvalid(problem=problem) from None


class _RemotePlace:
    """Files under one prefix of an object store."""

    def __init__(self, remote: ObjectStore, uri: str, secrets: Sequence[str]) -> None:
        self._remote, self._uri, self._secrets = remote, uri, secrets

    async def stamp(self, name: str) -> Stamp | None:
        try:
            meta = await obstore.head_async(self._remote, name)
        except (NotFoundError, FileNotFoundError):
            return None
        except BaseError as exc:
            raise self._refusal(exc) from exc
        tag = meta["e_tag"] or meta["version"] or meta["last_modified"].isoformat()
        return Stamp(meta["size"], tag)

    async def stream(self, name: str, stamp: Stamp) -> AsyncIterator[bytes]:
        try:
            result = await obstore.get_async(self._remote, name)
            meta = result.meta
            tag = meta["e_tag"] or meta["version"] or meta["last_modified"].isoformat()
            if Stamp(meta["size"], tag) != stamp:
                raise self._changed(name)
            async for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except (NotFoundError, FileNotFoundError, PreconditionError) as exc:
            raise self._changed(name) from exc
        except BaseError as exc:
            raise self._refusal(exc) from exc

    def _changed(self, name: str) -> SourceUnreachable:
        return SourceUnreachable(uri=self._uri, reason=f"{name} changed while it was read")

    def _refusal(self, exc: Exception) -> SourceForbidden | SourceUnreachable:
        if isinstance(exc, PermissionDeniedError | UnauthenticatedError):
            return SourceForbidden(uri=self._uri, reason="the place refused these credentials")
        return SourceUnreachable(uri=self._uri, reason=self._redacted(exc))

    def _redacted(self, exc: Exception) -> str:
        # The first line alone and no durations, so that the same trouble has the same words.
        said = _DURATION.sub("", str(exc).partition("\n")[0])
        text = _QUERY.sub("?...", f"{type(exc).__name__}: {said}")
        for secret in self._secrets:
            if secret:
                text = text.replace(secret, "***")
        return text[:_MAX_REASON]
