"""Reads the engines' access traces, so that the models of capacity follow what really happens.

One per controller process. It keeps its place by position and starts with the oldest event that an
engine still has, so a restart builds the same state again. Every HTTP call has a time limit, every
turn a bounded number of pages, and the sums are made in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from serving.contract import TraceEvent
from serving.controller.capacity.event_merge import EventMerge
from serving.controller.capacity.models import CapacityModels
from serving.controller.capacity.trace_client import TraceClient
from serving.controller.capacity.trace_cursor import TraceCursor
from serving.controller.errors import TraceUnavailable
from serving.controller.registry.fleet import Fleet, ObservedEngine

MAX_PAGES = 8
"""Pages of one engine in one turn; a replay of a million events takes a dozen turns."""
_CONCURRENT_ENGINES = 8
_TURN_SECONDS = 10.0
"""After so long no further page of an engine is begun: the others wait for the turn's end."""

T = TypeVar("T")
log = structlog.get_logger()


class CapacityObserver:
    """The models, and how far each engine's trace has been read."""

    def __init__(
        self,
        fleet: Fleet,
        client: TraceClient,
        *,
        clock: Callable[[], float],
        engine_timeout_seconds: float,
    ) -> None:
        """Nothing is read yet."""
        self._fleet, self._client = fleet, client
        self._clock, self._timeout = clock, engine_timeout_seconds
        self._models, self._merge = CapacityModels(), EventMerge()
        self._cursors: dict[str, TraceCursor] = {}
        # The models are used in threads: one at a time.
        self._in_use = asyncio.Lock()
        self.turns = 0
        """Raised with every turn: what was computed before may be out of date."""

    @property
    def cursors(self) -> dict[str, TraceCursor]:
        """Where this process is in each engine's trace; of unreachable engines too."""
        return dict(self._cursors)

    async def turn(self) -> None:
        """Read what is new at every reachable engine. One that fails is left for the next turn.

        Raises:
            RegistryUnavailable: the registry did not answer.
        """
        engines = await self._fleet.engines()
        await self._forget_all_but({engine.report.engine_id for engine in engines})
        now = self._clock()
        reachable = [engine for engine in engines if engine.is_reachable(now, self._timeout)]
        limit = asyncio.Semaphore(_CONCURRENT_ENGINES)

        async def follow(engine: ObservedEngine) -> tuple[str, float | None]:
            async with limit:
                return engine.report.engine_id, await self._follow(engine)

        looks = await asyncio.gather(*map(follow, reachable), return_exceptions=True)
        read_until = dict(look for look in looks if not isinstance(look, BaseException))

        def conclude(models: CapacityModels) -> None:
            models.feed_fleet(self._merge.ready(read_until))
            # Last: a version that has left may have requests among the events just read.
            names: dict[int, frozenset[str]] = {}
            for engine in reachable:
                if engine.is_abridged:
                    # What it leaves out is unknown, not gone.
                    continue
                # By identity: engines of which there is nothing special to say share one list.
                versions = engine.report.versions
                if id(versions) not in names:
                    names[id(versions)] = frozenset(version.name for version in versions)
                models.hold(engine.report.engine_id, names[id(versions)])

        await self.ask(conclude)
        self.turns += 1
        # What nobody expected of one engine is told when the others have been served.
        for look in looks:
            if isinstance(look, BaseException):
                raise look

    async def ask(self, question: Callable[[CapacityModels], T]) -> T:
        """Run `question` on the models in a thread, while nothing changes them."""
        async with self._in_use:
            return await asyncio.to_thread(question, self._models)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()

    async def _follow(self, engine: ObservedEngine) -> float | None:
        """Read one engine's trace on; the time of the last event read while more are known of."""
        report = engine.report
        cursor = self._cursors.setdefault(report.engine_id, TraceCursor())
        may_be_new = cursor.observe(report)
        last: float | None = None
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _TURN_SECONDS
        for _ in range(MAX_PAGES if may_be_new else 0):
            if loop.time() > deadline:
                break
            if self._merge.is_full(report.engine_id):
                return self._merge.last_at(report.engine_id)
            try:
                events = await self._read_page(engine, cursor)
            except TraceUnavailable as exc:
                self._note(cursor, report.engine_id, str(exc.fields["reason"]))
                break
            last = events[-1].at if events else last
            if cursor.lag_events == 0:
                return None
        return last

    async def _read_page(self, engine: ObservedEngine, cursor: TraceCursor) -> Sequence[TraceEvent]:
        name, url = engine.report.engine_id, engine.report.url
        lost = cursor.lost_events
        page = await self._client.page(name, url, after=cursor.next)
        cursor.advance(page)
        if cursor.lost_events > lost:
            log.warning("trace events lost", engine=name, events=cursor.lost_events - lost)
        await self.ask(lambda models: models.feed_engine(name, page.events))
        self._merge.add(name, page.events)
        return page.events

    def _note(self, cursor: TraceCursor, engine: str, reason: str) -> None:
        if cursor.error != reason:
            log.warning("trace not read", engine=engine, reason=reason)
        cursor.error = reason

    async def _forget_all_but(self, engines: set[str]) -> None:
        for engine in self._cursors.keys() - engines:
            del self._cursors[engine]
            self._merge.forget(engine)

        def forget(models: CapacityModels) -> None:
            for engine in models.engines - engines:
                models.forget_engine(engine)

        await self.ask(forget)
