"""Follows the controller's wishes about what to keep near: hot adapters and tenants' companions.

Wishes only: nothing here takes a place that a request needs. Hot adapters are preferred in slots
by the worker and spared by admission; companions are read ahead when a tenant's burst begins.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from serving.capacity.companions import BURST_GAP_SECONDS
from serving.contract import EngineWishes, FleetSnapshot
from serving.engine.admission import Admission
from serving.engine.ledger import TRANSIENT
from serving.engine.metrics import EngineMetrics
from serving.engine.ports import EngineError, EnginePort, EngineUnavailable

_log = structlog.get_logger(__name__)
MAX_COMPANIONS = 4
"""Read ahead per burst. Arbitrary: each is a read from disk that may turn out to be for nothing."""
VICTIM_IDLE_SECONDS = 300.0
"""A companion may take the place of what nobody used for so long; arbitrary, five pauses."""


class Residency:
    """Wishes of one engine. Used from one event loop."""

    def __init__(
        self,
        port: EnginePort,
        admission: Admission,
        *,
        engine_id: str,
        metrics: EngineMetrics,
        clock: Callable[[], float],
        is_usable: Callable[[str], bool],
    ) -> None:
        """`clock` is monotonic; `is_usable`: whether a version may answer requests here."""
        self._port, self._admission, self._metrics = port, admission, metrics
        self._engine_id, self._clock, self._is_usable = engine_id, clock, is_usable
        self._wishes = EngineWishes(engine=engine_id)
        self._hot: frozenset[str] = frozenset()
        self._kept: tuple[str, ...] = ()
        self._last_asked: dict[str, float] = {}
        self._applying: asyncio.Task[None] | None = None
        self._prefetching: set[asyncio.Task[None]] = set()

    def is_hot(self, name: str) -> bool:
        """Whether this adapter should stay in CPU memory while another one could go."""
        return name in self._hot

    def pinned(self, active: Sequence[str]) -> tuple[str, ...]:
        """Of what the worker prefers, what holds a slot; hottest first."""
        held = set(active)
        return tuple(name for name in self._kept if name in held)

    def follow(self, snapshot: FleetSnapshot) -> None:
        """Take over this engine's wishes; none in the snapshot: keep nothing on purpose."""
        none = EngineWishes(engine=self._engine_id)
        ours = (wishes for wishes in snapshot.residency if wishes.engine == self._engine_id)
        self._wishes = wishes = next(ours, none)
        self._hot = frozenset(wishes.hot)
        self._last_asked = {
            tenant: at for tenant, at in self._last_asked.items() if tenant in wishes.companions
        }
        is_applied = tuple(wishes.hot) == self._kept
        if self._applying is None and not is_applied:
            self._applying = asyncio.create_task(self._apply(), name="keep hot")

    def asked(self, name: str) -> None:
        """A tenant's request was admitted, its own adapter is in memory."""
        wanted = self._wishes.companions
        if not wanted:
            return
        tenant = name.partition("/")[0]
        companions = wanted.get(tenant)
        if companions is None:
            return
        now = self._clock()
        last = self._last_asked.get(tenant)
        self._last_asked[tenant] = now
        if last is not None and now - last < BURST_GAP_SECONDS:
            return
        names = [other for other in companions if other != name][:MAX_COMPANIONS]
        task = asyncio.create_task(self._prefetch(names), name=f"companions of {tenant}")
        self._prefetching.add(task)
        task.add_done_callback(self._prefetching.discard)

    async def stop(self) -> None:
        """End what runs in the background."""
        tasks = [*self._prefetching, *([self._applying] if self._applying else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _apply(self) -> None:
        n_failures = 0
        try:
            while self._kept != (hot := tuple(self._wishes.hot)):
                try:
                    await self._port.keep_hot(hot)
                    self._kept, n_failures = hot, 0
                except EngineUnavailable as exc:
                    n_failures += 1
                    _log.warning("the engine was not told what is hot", reason=str(exc))
                    await asyncio.sleep(TRANSIENT.pause(n_failures))
        finally:
            self._applying = None

    async def _prefetch(self, names: Sequence[str]) -> None:
        for name in names:
            outcome = "skipped"
            try:
                if self._is_usable(name) and await self._admission.prefetch(
                    name, victim_idle_seconds=VICTIM_IDLE_SECONDS
                ):
                    outcome = "loaded"
            except EngineError as exc:
                outcome = "refused"
                _log.warning("a companion could not be read ahead", name=name, reason=str(exc))
            self._metrics.prefetched(outcome)
