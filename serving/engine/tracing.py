"""Two events per request in the access trace: at its admission, and when its response has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from serving.contract import TracePage
from serving.engine.trace import AccessTrace, TraceUnavailable, Usage
from serving.settings import EngineSettings

_log = structlog.get_logger(__name__)
_NOTHING = Usage()
_FLUSH_SECONDS = 0.1
"""How long an event may wait to be written: so much of the trace is lost with a killed process."""


class UsageMeter:
    """What one request has taken; the engine may work on it in several parts (prompts, samples)."""

    __slots__ = ("_ended", "_parts")

    def __init__(self) -> None:
        self._ended = _NOTHING
        self._parts: dict[str, Callable[[], Usage]] = {}

    def open(self, part: str, read: Callable[[], Usage]) -> None:
        """The engine has begun with a part; `read` tells what it has taken so far."""
        self._parts[part] = read

    def close(self, part: str) -> None:
        """The engine is done with a part."""
        read = self._parts.pop(part, None)
        if read is not None:
            self._ended = read() if self._ended is _NOTHING else self._ended + read()

    def aborted(self) -> Usage | None:
        """What the parts have taken that the engine did not end; None where it ended all."""
        return sum((read() for read in self._parts.values()), _NOTHING) if self._parts else None

    def total(self) -> Usage:
        """What all parts have taken so far, those that were aborted included."""
        if not self._parts:
            return self._ended
        return sum((read() for read in self._parts.values()), self._ended)


class Tracing:
    """The engine's trace, or nothing where the disk refuses it: requests are worth more."""

    def __init__(self, trace: AccessTrace | None, engine_id: str) -> None:
        self._trace, self._engine_id = trace, engine_id
        self._is_flush_due = False

    @classmethod
    def of(cls, settings: EngineSettings) -> Tracing:
        """Open this engine's trace as the settings say."""
        trace = None
        if settings.trace_events > 0:
            try:
                trace = AccessTrace(settings.engine_dir / "trace", capacity=settings.trace_events)
            except TraceUnavailable as exc:
                _log.error("this engine keeps no access trace", reason=str(exc))
        return cls(trace, settings.engine_id)

    @property
    def end(self) -> int:
        """Number of events that the trace has ever held."""
        return 0 if self._trace is None else self._trace.end

    def begin(
        self, name: str, *, is_gate: bool, usage: Callable[[], Usage] = Usage
    ) -> Callable[[], None]:
        """A request was admitted; returns what says, once, that it has ended and what it took.

        Both are called in the event loop.
        """
        trace = self._trace
        if trace is None:
            return lambda: None
        position = trace.admitted(name, at=time.time(), is_gate=is_gate)
        self._flush_soon(trace)
        is_open = True

        def end() -> None:
            nonlocal is_open
            if is_open:
                is_open = False
                trace.finished(position, name, at=time.time(), usage=usage(), is_gate=is_gate)
                self._flush_soon(trace)

        return end

    def _flush_soon(self, trace: AccessTrace) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._flush, trace)

    def _flush(self, trace: AccessTrace) -> None:
        self._is_flush_due = False
        trace.flush()

    async def page(self, after: int, limit: int) -> TracePage | None:
        """Events from a position on, read beside the event loop; None where none can be read."""
        if self._trace is None:
            return None
        try:
            return await asyncio.to_thread(
                self._trace.page, self._engine_id, after=after, limit=limit
            )
        except OSError as exc:
            _log.warning("the access trace cannot be read", reason=str(exc))
            return None

    def close(self) -> None:
        """Have everything on the disk itself; idempotent."""
        if self._trace is not None:
            self._trace.close()
