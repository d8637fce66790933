"""Results that took long to compute, kept by the content that they depend on.

They lie beside the artifacts (local folder or object storage), so that a controller that was killed
goes on where it stood and another controller needs not compute again. A result that is lost or
unreadable is computed again; nothing else depends on it.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from adapters.blobs import BlobMissing, Blobs

_MAX_BYTES = 1024**3
"""Unpacked size at which a stored result counts as spoilt: far above 20,000 cases' answers."""
_Result = TypeVar("_Result")


def result_key(kind: str, parts: Mapping[str, Any]) -> str:
    """`sha256:...` over the kind and everything that the result depends on; order is no matter."""
    text = json.dumps([kind, dict(parts)], sort_keys=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


class ResultStore:
    """Finds and keeps results by key. Safe to use from several processes at once."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def find(self, key: str, kind: type[_Result]) -> _Result | None:
        """The kept result, or None where there is none that can be read as `kind`.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        data = bytearray()
        try:
            async for chunk in self._blobs.stream(_place(key)):
                data += chunk
        except BlobMissing:
            return None
        try:
            unpacked = zlib.decompressobj().decompress(bytes(data), _MAX_BYTES)
            return msgspec.msgpack.decode(unpacked, type=kind)
        except (zlib.error, msgspec.DecodeError, msgspec.ValidationError):
            # Another release's shape, or a damaged object: as good as none.
            return None

    async def keep(self, key: str, result: Any) -> None:
        """Keep a result (dataclasses, structs and plain values); durable when it returns.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        await self._blobs.put_bytes(_place(key), zlib.compress(msgspec.msgpack.encode(result), 3))

    async def forget(self, key: str) -> None:
        """Remove a result; absent is fine.

        Raises:
            StoreUnavailable: the store does not answer.
        """
        await self._blobs.delete(_place(key))


def _place(key: str) -> str:
    hexadecimal = key.removeprefix("sha256:")
    return f"results/{hexadecimal[:2]}/{hexadecimal}"
