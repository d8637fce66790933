"""What fetching a source needs of the place where its files lie."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

CHUNK_BYTES = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file's size in bytes, and a tag that is another one when its bytes are replaced."""

    size_bytes: int
    tag: str


class Place(Protocol):
    """Files by bare name. Every method may raise any error of `source_errors`."""

    async def stamp(self, name: str) -> Stamp | None:
        """A file's stamp; None: the place answered that it is not there."""

    def stream(self, name: str, stamp: Stamp) -> AsyncIterator[bytes]:
        """The file's bytes in pieces; raises SourceUnreachable when it is no longer `stamp`'s."""
