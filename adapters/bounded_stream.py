"""A readable stream that refuses to be read far or in large pieces: a bomb's fuse."""

from __future__ import annotations

import io
from typing import IO

from adapters.errors import ArtifactTooLarge

MAX_READ_BYTES = 4 * 1024**2
"""tarfile reads an extended header at once, of any size that it states."""


class BoundedStream:
    """Wraps a seekable stream for tarfile.

    Every method raises `ArtifactTooLarge` when it would pass `max_position` (in unpacked bytes) or
    read more than `MAX_READ_BYTES` at once.
    """

    def __init__(self, stream: IO[bytes], *, max_position: int) -> None:
        self._stream = stream
        self._max_position = max_position

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; `size` has to be stated."""
        if not 0 <= size <= MAX_READ_BYTES:
            raise ArtifactTooLarge(what="archive header bytes", limit=MAX_READ_BYTES, found=size)
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; from the start or the present position alone."""
        target = offset + (self._stream.tell() if whence == io.SEEK_CUR else 0)
        self._check(target)
        return self._stream.seek(target)

    def tell(self) -> int:
        """Position in unpacked bytes."""
        return self._stream.tell()

    def _check(self, position: int) -> None:
        # Reading ahead to the end of the last block is no offence.
        if position > self._max_position + MAX_READ_BYTES:
            raise ArtifactTooLarge(what="unpacked bytes", limit=self._max_position, found=position)
