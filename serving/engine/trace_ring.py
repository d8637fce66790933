"""The access trace's ring file: a header, then `capacity` records of 40 bytes.

The event at position p is record p mod capacity. Each record has its position and a checksum, so
one that a crash has torn, or that an older lap left there, is told apart and never misread.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.engine.trace_names import TraceNames

_BODY = struct.Struct("<QdIIIIf")
"""position, unix seconds, distance to the ADMITTED event, name and flags, prompt tokens, completion
tokens, TTFT in seconds (NaN: none)."""
_CHECK = struct.Struct("<I")
RECORD_BYTES = _BODY.size + _CHECK.size
_HEADER = struct.Struct("<8sQQ40s")
"""magic, capacity, origin (no event before it), boot id or `closed`."""
HEADER_BYTES = _HEADER.size
_MAGIC = b"LPTRACE1"
CLOSED = b"closed"
"""State of a ring that was closed in good order."""
NAME_MASK = (1 << 30) - 1
"""Of the field with name and flags: the name's number."""


def pack_header(capacity: int, origin: int, state: bytes) -> bytes:
    """`state`: `CLOSED`, or the boot id of the machine that writes it now."""
    return _HEADER.pack(_MAGIC, capacity, origin, state)


def pack_record(*fields: Any) -> bytes:
    """One event: position, Unix seconds, distance, name and flags, tokens twice, TTFT."""
    body = _BODY.pack(*fields)
    return body + _CHECK.pack(zlib.crc32(body))


def unpack_record(record: bytes) -> Any:
    """The fields of `pack_record`; None where the checksum does not fit."""
    body = record[: _BODY.size]
    if len(record) != RECORD_BYTES or _CHECK.pack(zlib.crc32(body)) != record[_BODY.size :]:
        return None
    return _BODY.unpack(body)


def read_header(path: Path) -> tuple[int, int, bytes] | None:
    """(origin, capacity, state); None where there is none."""
    try:
        with path.open("rb") as file:
            magic, capacity, origin, state = _HEADER.unpack(file.read(HEADER_BYTES))
    except (FileNotFoundError, struct.error):
        return None
    return (origin, capacity, state.rstrip(b"\0")) if magic == _MAGIC else None


def make_ring(path: Path, capacity: int, origin: int) -> None:
    """Replace the ring by an empty one, with all its room taken from the disk."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, HEADER_BYTES + capacity * RECORD_BYTES)
        os.pwrite(descriptor, pack_header(capacity, origin, CLOSED), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)


@dataclass(frozen=True)
class Found:
    """The newest run of consecutive good events in a ring file."""

    n_records: int = 0
    first: int = 0
    end: int = 0
    last_use: dict[int, int] = field(default_factory=dict)
    """By number of a name, the position of its newest event."""


def scan_ring(path: Path, names: TraceNames, origin: int) -> Found:
    """The events of a ring file from `origin` on, of whatever capacity it was made."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Found()
    n_records = max(0, (len(data) - HEADER_BYTES) // RECORD_BYTES)
    positions, words = array("q", [-1]) * n_records, array("Q", [0]) * n_records
    for slot in range(n_records):
        start = HEADER_BYTES + slot * RECORD_BYTES
        fields = unpack_record(data[start : start + RECORD_BYTES])
        if fields is not None and fields[0] % n_records == slot:
            positions[slot], words[slot] = fields[0], fields[3] & NAME_MASK
    end = first = max(positions, default=-1) + 1
    last_use: dict[int, int] = {}
    while first > origin and positions[slot := (first - 1) % n_records] == first - 1:
        if names.name_of(words[slot]) is None:
            break
        first -= 1
        last_use.setdefault(words[slot], first)
    return Found(n_records, first, end, last_use)
