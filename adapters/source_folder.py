"""A source in a local folder that the operator allows: no link is followed, nothing is left.

Every name on the way is opened relative to its parent's descriptor, so a folder that is exchanged
for a link meanwhile leads nowhere.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from adapters.source_errors import SourceForbidden, SourceUnreachable
from adapters.source_place import CHUNK_BYTES, Stamp
from adapters.source_uri import SourceUri

if TYPE_CHECKING:
    from collections.abc import Iterator

_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_FOLDER_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_DIRECTORY


class FolderPlace:
    """Files below `root`, which the operator trusts; what lies below is anybody's."""

    def __init__(self, root: Path, parts: Sequence[str], *, uri: str) -> None:
        """`parts`: names of the folders from `root` to the files."""
        self._root, self._parts, self._uri = root, tuple(parts), uri

    @classmethod
    def allowed(cls, uri: SourceUri, folders: Sequence[Path]) -> FolderPlace:
        """The place that a `file` source names; for an archive, the folder that it lies in.

        Raises:
            SourceForbidden: it is below none of the allowed `folders`.
        """
        path = Path("/", *uri.parts)
        folder = path.parent if uri.is_archive else path
        for root in folders:
            with suppress(ValueError):
                return cls(root, folder.relative_to(root).parts, uri=str(uri))
        raise SourceForbidden(uri=str(uri), reason="the operator allows no such folder")

    async def stamp(self, name: str) -> Stamp | None:
        """See `Place`."""
        return await asyncio.to_thread(self._stamp, name)

    async def stream(self, name: str, stamp: Stamp) -> AsyncIterator[bytes]:
        """See `Place`."""
        file = await asyncio.to_thread(self._open, name)
        if file is None:
            raise SourceUnreachable(uri=self._uri, reason=f"{name} went away while it was read")
        with file:
            while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
                yield chunk
            if _stamp_of(file) != stamp:
                raise SourceUnreachable(uri=self._uri, reason=f"{name} changed while it was read")

    def _stamp(self, name: str) -> Stamp | None:
        file = self._open(name)
        if file is None:
            return None
        with file:
            return _stamp_of(file)

    def _open(self, name: str) -> IO[bytes] | None:
        try:
            with self._folder() as folder:
                file = os.fdopen(os.open(name, _FILE_FLAGS, dir_fd=folder), "rb")
        except OSError as exc:
            if exc.errno == errno.ENOENT:
                self._require_root()
                return None
            raise self._refusal(exc) from exc
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise SourceForbidden(uri=self._uri, reason=f"{name} is not a regular file")
        return file

    @contextmanager
    def _folder(self) -> Iterator[int]:
        descriptor = os.open(self._root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
        try:
            for part in self._parts:
                below = os.open(part, _FOLDER_FLAGS, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _require_root(self) -> None:
        # A disk that is not mounted must not look like a source without files.
        if not self._root.is_dir():
            raise SourceUnreachable(uri=self._uri, reason="the allowed folder is not there")

    def _refusal(self, exc: OSError) -> SourceForbidden | SourceUnreachable:
        if exc.errno in (errno.ELOOP, errno.ENOTDIR):
            return SourceForbidden(uri=self._uri, reason="a link, or not a folder, is on the way")
        if exc.errno in (errno.EACCES, errno.EPERM):
            return SourceForbidden(uri=self._uri, reason="no permission to read it")
        return SourceUnreachable(uri=self._uri, reason=os.strerror(exc.errno or 0))


def _stamp_of(file: IO[bytes]) -> Stamp:
    facts = os.fstat(file.fileno())
    return Stamp(facts.st_size, f"{facts.st_ino:x}-{facts.st_mtime_ns:x}")
