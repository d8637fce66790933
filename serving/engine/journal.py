"""What becomes of requests: noted beside them, traced and counted a little later.

Beside a request each count and each event of the trace is a step into code and tables that are in
no cache; many in a row cost a fraction of that, and nobody waits for them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextvars import Context

import structlog

from serving.engine.admission import Lease
from serving.engine.metrics import EngineMetrics
from serving.engine.series import FinishedRequest
from serving.engine.tracing import Tracing
from serving.engine.usage_meter import UsageMeter

_log = structlog.get_logger(__name__)
_SETTLE_SECONDS = 0.05
"""How long something noted may wait; with the trace's own wait a tenth of a second."""
_MOST_NOTED = 64
"""At most; tracing and counting so many keeps the event loop for a third of a millisecond."""


class Hold(UsageMeter):
    """Keeps one request's version in CPU memory until `release`, and knows what it has taken.

    It does not know the request's scope, which knows this: a cycle for each request would be
    garbage that waits for the collector.
    """

    __slots__ = (
        "_journal", "_lease", "admitted_at", "asked_at", "ended_at", "is_gate", "name", "position",
    )  # fmt: skip

    def __init__(self, journal: Journal, lease: Lease, *, asked_at: float, is_gate: bool) -> None:
        """`asked_at`: when the request asked for its version, on the journal's clock."""
        self._open, self._ended = {}, ()
        self._journal, self.name = journal, lease.name
        self._lease: Lease | None = lease
        self.asked_at, self.is_gate = asked_at, is_gate
        self.admitted_at, self.ended_at = journal.clock(), math.inf
        self.position: int | None = None
        """In the trace; None until its admission is written."""
        journal.note(self)

    def release(self) -> None:
        """The response has ended; may be called more than once."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()
            self.ended_at = self._journal.clock()
            self._journal.note(self)


class Journal:
    """One engine's; used from one event loop. The gate's requests are nobody's traffic."""

    def __init__(
        self, tracing: Tracing, metrics: EngineMetrics, clock: Callable[[], float]
    ) -> None:
        """`clock` is monotonic. Whoever reads the trace or the metrics has it settled first."""
        self.clock = clock
        self.n_lost = 0
        """Of what was noted, how much could be neither traced nor counted; the first is logged."""
        self._tracing, self._metrics = tracing, metrics
        self._noted: list[Hold | Callable[[], FinishedRequest]] = []
        self._is_due = False
        tracing.before_reading = metrics.before_reading = self.settle

    def note(self, what: Hold | Callable[[], FinishedRequest]) -> None:
        """A request was admitted or has ended, or the engine finished one: what makes its row."""
        noted = self._noted
        noted.append(what)
        if not self._is_due:
            self._is_due = True
            # In a context of its own: it would keep that of the request, and the scope in it.
            asyncio.get_running_loop().call_later(
                _SETTLE_SECONDS, self._settle_in_time, context=Context()
            )
        elif len(noted) >= _MOST_NOTED:
            self.settle()

    def settle(self) -> None:
        """Trace and count all that was noted, in its order."""
        noted, self._noted = self._noted, []
        to_unix = time.time() - self.clock()
        for what in noted:
            try:
                self._settle_one(what, to_unix)
            except Exception:  # noqa: BLE001 - a request's numbers come from vLLM's own objects
                # They are worth neither those noted after it, nor the request that settles here.
                if not self.n_lost:
                    _log.exception("a request could not be traced and counted")
                self.n_lost += 1

    def _settle_one(self, what: Hold | Callable[[], FinishedRequest], to_unix: float) -> None:
        if not isinstance(what, Hold):
            self._metrics.finished(what())
        elif what.position is None:
            self._settle_admitted(what, to_unix)
        else:
            self._settle_ended(what, what.position, to_unix)

    def _settle_in_time(self) -> None:
        self._is_due = False
        self.settle()

    def _settle_admitted(self, hold: Hold, to_unix: float) -> None:
        at = hold.admitted_at + to_unix
        hold.position = self._tracing.admitted(hold.name, at=at, is_gate=hold.is_gate)
        if not hold.is_gate:
            self._metrics.admitted(hold.name, hold.asked_at, hold.admitted_at)

    def _settle_ended(self, hold: Hold, position: int, to_unix: float) -> None:
        at = hold.ended_at + to_unix
        self._tracing.ended(position, hold.name, hold.total(), at=at, is_gate=hold.is_gate)
        if hold.is_open and not hold.is_gate:
            self._count_abort(hold)
        hold.forget()

    def _count_abort(self, hold: Hold) -> None:
        """vLLM's statistics leave out what its client, or we, gave up before it had ended."""
        usage = hold.aborted()
        ttft = math.nan if usage.ttft_seconds is None else usage.ttft_seconds
        tokens = (usage.prompt_tokens, usage.completion_tokens)
        seconds = hold.ended_at - hold.asked_at
        self._metrics.finished(FinishedRequest(hold.name, *tokens, ttft, seconds, "abort"))
