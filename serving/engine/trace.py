"""The access trace: which adapter was asked for when, and how many tokens it took. No content.

A ring of fixed size in a file, whose form is `trace_ring`'s.
"""

from __future__ import annotations

import fcntl
import math
import os
import secrets
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import structlog

from serving.contract import TraceEvent, TraceKind, TracePage
from serving.engine.trace_names import TraceNames
from serving.engine.trace_ring import (
    CLOSED,
    HEADER_BYTES,
    NAME_MASK,
    RECORD_BYTES,
    make_ring,
    pack_header,
    pack_record,
    read_header,
    scan_ring,
    unpack_record,
)

_log = structlog.get_logger(__name__)
MAX_PAGE = 10_000
"""Events per page at most; about 1 MB of JSON."""
_MOST_UNWRITTEN = 256
"""Events that wait in memory at most; written together they take half a millisecond."""
_TIDY_LINES = 1024
"""A smaller file of names is never rewritten; arbitrary."""
_FINISHED_BIT, _GATE_BIT = 1 << 31, 1 << 30
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MOST = 2**32 - 1


class TraceUnavailable(Exception):
    """This engine keeps no trace now: its disk refused, or another process writes it."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a request took; `ttft_seconds` None where no token was made."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft_seconds: float | None = None

    def __add__(self, other: Usage) -> Usage:
        """Both together; the first token of either is the first."""
        ttfts = [seconds for seconds in (self.ttft_seconds, other.ttft_seconds) if seconds]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            min(ttfts, default=None),
        )


_NO_USAGE = (0, 0, math.nan)


class AccessTrace:
    """Appended to from one thread; `page` and `flush` may be called from any other.

    An event waits in memory until `flush`, so that a request pays for neither packing nor a system
    call; from then on it is in the page cache and survives a killed process. A position that a
    killed process has not written was shown to nobody, and is given out again. After a crash of the
    machine, which may lose the last seconds, positions go on beyond all that could have been given
    out, and the events from before it are gone.
    """

    def __init__(self, folder: Path, *, capacity: int) -> None:
        """Open or make the ring in `folder`. Another capacity than before starts it empty.

        Raises:
            TraceUnavailable: no room for it, the disk refuses, or another process has it open.
        """
        self.n_lost = 0
        """Events that the disk did not take."""
        self._capacity, self._most_unwritten = capacity, min(_MOST_UNWRITTEN, capacity)
        self._unwritten: deque[tuple[int, float, int, str, int, Usage | None]] = deque()
        """Position, time, distance to the ADMITTED event, name, flags, usage."""
        self._writing = threading.Lock()
        self._tidy_at = _TIDY_LINES
        self._last_use: dict[int, int] = {}
        self._descriptor = -1
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = _lock(folder)
            self._path = folder / "ring.bin"
            self._names = TraceNames(folder / "names.txt")
            self._first, self._end = self._recover()
            self._written = self._end
        except OSError as exc:
            raise TraceUnavailable(str(exc)) from exc

    @property
    def end(self) -> int:
        """Position of the next event: the number of events that the trace has ever held."""
        return self._end

    def admitted(self, name: str, *, at: float, is_gate: bool) -> int:
        """A request for `name` was let in; returns the event's position."""
        position = self._end
        self._append(position, at, name, _GATE_BIT if is_gate else 0, None)
        return position

    def finished(self, request: int, name: str, *, at: float, usage: Usage, is_gate: bool) -> None:
        """The request that was admitted at position `request` has ended."""
        self._append(request, at, name, _FINISHED_BIT | (_GATE_BIT if is_gate else 0), usage)

    def flush(self) -> None:
        """Write the events that wait in memory; those that the disk does not take are lost."""
        with self._writing:
            events = []
            while self._unwritten:
                events.append(self._unwritten.popleft())
            if not events:
                return
            try:
                self._write(events)
            except OSError as exc:
                # A request is worth more than its trace. Their positions stay unreadable.
                if not self.n_lost:
                    _log.error("the access trace cannot be written", reason=str(exc))
                self.n_lost += len(events)
            self._written = events[-1][0] + 1
            if self._names.n_lines > self._tidy_at:
                self._tidy_names()

    def page(self, engine_id: str, *, after: int, limit: int) -> TracePage:
        """At most `limit` events from position `after` on, or from the oldest one that is left."""
        self.flush()
        end = self._written
        first = min(max(after, end - self._capacity, self._first), end)
        count = min(limit, MAX_PAGE, end - first)
        events: list[TraceEvent] = []
        for offset, data in enumerate(self._read(first, count)):
            event = self._decode(first + offset, data)
            if event is None:  # Overwritten since: the ring's oldest moved on while we read.
                events.clear()
            else:
                events.append(event)
        if not events:
            return TracePage(engine_id, first + count, first + count, end)
        return TracePage(engine_id, events[0].position, first + count, end, events)

    def close(self) -> None:
        """Have everything on the disk itself, and let another process have it; idempotent.

        What is appended afterwards is lost, and counted as such.
        """
        if self._descriptor < 0:
            return
        self.flush()
        try:
            os.fsync(self._descriptor)
            self._names.sync()
            self._write_header(CLOSED)
        except OSError as exc:
            _log.warning("the access trace was not closed cleanly", reason=str(exc))
        self._names.close()
        os.close(self._descriptor)
        os.close(self._lock)
        self._descriptor = -1

    def _append(self, request: int, at: float, name: str, flags: int, usage: Usage | None) -> None:
        if self._descriptor < 0:
            self.n_lost += 1
            return
        position = self._end
        self._unwritten.append((position, at, position - request, name, flags, usage))
        self._end = position + 1
        if len(self._unwritten) >= self._most_unwritten:
            self.flush()

    def _write(self, events: list[tuple[int, float, int, str, int, Usage | None]]) -> None:
        """Write consecutive events, at most as many as the ring holds."""
        records, numbers = [], {}
        for position, at, distance, name, flags, usage in events:
            number = self._names.number_of(name)
            taken = _NO_USAGE if usage is None else _packable(usage)
            records.append(pack_record(position, at, distance, number | flags, *taken))
            numbers[number] = position
        n_before_wrap = self._capacity - events[0][0] % self._capacity
        descriptor, start = self._descriptor, self._offset(events[0][0])
        os.pwrite(descriptor, b"".join(records[:n_before_wrap]), start)
        os.pwrite(descriptor, b"".join(records[n_before_wrap:]), HEADER_BYTES)
        self._last_use |= numbers

    def _tidy_names(self) -> None:
        oldest = self._written - self._capacity
        self._last_use = {n: at for n, at in self._last_use.items() if at >= oldest}
        self._tidy_at = max(_TIDY_LINES, 2 * len(self._last_use))
        if self._names.n_lines > self._tidy_at:
            try:
                self._names.shrink(self._last_use)
            except OSError as exc:
                _log.warning("the trace's names were not tidied", reason=str(exc))

    def _offset(self, position: int) -> int:
        return HEADER_BYTES + position % self._capacity * RECORD_BYTES

    def _read(self, first: int, count: int) -> list[bytes]:
        """The records of `count` positions from `first` on, whatever is in them."""
        slot = first % self._capacity
        n_before_wrap = min(count, self._capacity - slot)
        data = os.pread(self._descriptor, n_before_wrap * RECORD_BYTES, self._offset(first))
        data += os.pread(self._descriptor, (count - n_before_wrap) * RECORD_BYTES, HEADER_BYTES)
        return [data[i : i + RECORD_BYTES] for i in range(0, len(data), RECORD_BYTES)]

    def _decode(self, position: int, record: bytes) -> TraceEvent | None:
        fields = unpack_record(record)
        if fields is None or fields[0] != position:
            return None
        _, at, distance, word, prompt_tokens, completion_tokens, ttft = fields
        name = self._names.name_of(word & NAME_MASK)
        if name is None:
            return None
        return TraceEvent(
            position,
            at,
            TraceKind.FINISHED if word & _FINISHED_BIT else TraceKind.ADMITTED,
            name,
            position - distance,
            prompt_tokens,
            completion_tokens,
            None if math.isnan(ttft) else round(ttft, 6),
            bool(word & _GATE_BIT),
        )

    def _recover(self) -> tuple[int, int]:
        """(first, end) of the readable events; the file is ours to write from here on."""
        header = read_header(self._path)
        origin, capacity, state = header or (0, 0, b"")
        found = scan_ring(self._path, self._names, origin)
        first, end = found.first, found.end
        self._last_use = found.last_use
        boot = _boot_id()
        if (end or origin) and state not in (CLOSED, boot):
            # The machine went down with events in its memory; some may have been read already.
            end += found.n_records
        end = max(end, origin)
        if end != found.end or capacity != self._capacity:
            first = end
        if capacity != self._capacity:
            make_ring(self._path, self._capacity, end)
        # What is not readable now never will be: its names' numbers may come to mean others.
        self._origin = first
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        self._write_header(boot)
        return first, end

    def _write_header(self, state: bytes) -> None:
        header = pack_header(self._capacity, self._origin, state)
        os.pwrite(self._descriptor, header, 0)
        os.fsync(self._descriptor)


def _packable(usage: Usage) -> tuple[int, int, float]:
    ttft = math.nan if usage.ttft_seconds is None else usage.ttft_seconds
    return min(usage.prompt_tokens, _MOST), min(usage.completion_tokens, _MOST), ttft


def _lock(folder: Path) -> int:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _boot_id() -> bytes:
    """Changes when the machine restarts, and with it what was in its memory alone."""
    try:
        return _BOOT_ID.read_bytes().strip()[:40]
    except OSError:
        return secrets.token_hex(16).encode()  # Unknown: as if it had restarted.
