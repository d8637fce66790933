"""Several engines' events as one stream in order of time, for the model of the fleet. Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from serving.contract import TraceEvent

MAX_WAITING = 20_000
"""Events of one engine that wait for the others; its trace is not read on meanwhile. Arbitrary:
about 6 MB."""


class EventMerge:
    """Holds an engine's events back while another engine's earlier ones are still to come.

    Between two looks at traces that are fully read the order of time is kept; an engine that was
    silent for long comes late and is then taken as it comes.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[TraceEvent]] = {}

    def add(self, engine: str, events: Sequence[TraceEvent]) -> None:
        """The next events of one engine."""
        self._waiting.setdefault(engine, deque()).extend(events)

    def forget(self, engine: str) -> None:
        """This engine's events are not wanted any more."""
        self._waiting.pop(engine, None)

    def is_full(self, engine: str) -> bool:
        """Whether so many of its events wait that no more should be read."""
        return len(self._waiting.get(engine, ())) >= MAX_WAITING

    def last_at(self, engine: str) -> float | None:
        """Time of the last event of an engine that waits; None: none does."""
        waiting = self._waiting.get(engine)
        return waiting[-1].at if waiting else None

    def ready(self, read_until: Mapping[str, float | None]) -> Iterator[TraceEvent]:
        """Take out what no earlier event can precede any more, in order of time.

        `read_until`: by engine that is being read, the time of the last event read while more are
        known of; None where everything is read.
        """
        limits = [at for at in read_until.values() if at is not None]
        limit = min(limits, default=float("inf"))
        ready = [_take(waiting, limit) for waiting in self._waiting.values()]
        return heapq.merge(*ready, key=lambda event: event.at)


def _take(waiting: deque[TraceEvent], limit: float) -> list[TraceEvent]:
    taken = []
    while waiting and waiting[0].at <= limit:
        taken.append(waiting.popleft())
    return taken
