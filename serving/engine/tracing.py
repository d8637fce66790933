"""Two events per request in the access trace: at its admission, and when its response has ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context

import structlog

from serving.contract import TracePage
from serving.engine.trace import AccessTrace, TraceUnavailable, Usage
from serving.settings import EngineSettings

_log = structlog.get_logger(__name__)
_NOTHING = Usage()
_FLUSH_SECONDS = 0.05
"""How long an event may wait to be written; it is lost with a killed process."""


class Tracing:
    """The engine's trace, or nothing where the disk refuses it: requests are worth more."""

    def __init__(self, trace: AccessTrace | None, engine_id: str) -> None:
        self._trace, self._engine_id = trace, engine_id
        self._is_flush_due = False
        self.before_reading: Callable[[], None] = lambda: None
        """Has what was noted elsewhere told here."""

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
        self.before_reading()
        return 0 if self._trace is None else self._trace.end

    def admitted(self, name: str, *, at: float, is_gate: bool) -> int:
        """A request was admitted at that Unix time; `ended` takes what this returns.

        Both are called in the event loop.
        """
        trace = self._trace
        if trace is None:
            return 0
        if not self._is_flush_due:
            self._flush_soon(trace)
        return trace.admitted(name, at=at, is_gate=is_gate)

    def ended(
        self, position: int, name: str, usage: Usage = _NOTHING, *, at: float, is_gate: bool
    ) -> None:
        """The request that was admitted at this position has ended, and took so much."""
        trace = self._trace
        if trace is None:
            return
        if not self._is_flush_due:
            self._flush_soon(trace)
        trace.finished(position, name, at=at, usage=usage, is_gate=is_gate)

    @contextmanager
    def span(self, name: str, *, is_gate: bool) -> Iterator[None]:
        """Both, of what is done in it."""
        self.before_reading()  # Events stay in their order.
        position = self.admitted(name, at=time.time(), is_gate=is_gate)
        try:
            yield
        finally:
            self.before_reading()
            self.ended(position, name, at=time.time(), is_gate=is_gate)

    def _flush_soon(self, trace: AccessTrace) -> None:
        self._is_flush_due = True
        loop = asyncio.get_running_loop()
        loop.call_later(_FLUSH_SECONDS, self._flush, trace, context=Context())

    def _flush(self, trace: AccessTrace) -> None:
        self._is_flush_due = False
        trace.flush()

    async def page(self, after: int, limit: int) -> TracePage | None:
        """Events from a position on, read beside the event loop; None where none can be read."""
        if self._trace is None:
            return None
        self.before_reading()
        try:
            return await asyncio.to_thread(
                self._trace.page, self._engine_id, after=after, limit=limit
            )
        except OSError as exc:
            _log.warning("the access trace cannot be read", reason=str(exc))
            return None

    def close(self) -> None:
        """Have everything on the disk itself; idempotent."""
        self._is_flush_due = True  # Closing writes all; there may be no event loop any more.
        self.before_reading()
        if self._trace is not None:
            self._trace.close()
