"""What the events of traces are summed up in: per engine, and for the fleet under tenant hashing.

Pure, and not for two threads at once. Memory at 10,000 adapters: 7 MB for each engine and 40 MB for
the fleet; the bounds are those of `Locality`, `HotSets` and `FleetLocality`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from serving.capacity.companions import Bursts
from serving.capacity.curve import Curve, merge_curves
from serving.capacity.fleet import FleetLocality
from serving.capacity.hot_set import HotSets
from serving.capacity.locality import Locality
from serving.contract import TraceEvent, TraceKind

ENGINE_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
"""Fleets that are weighed against today's. Arbitrary: each costs 2 microseconds per event."""


@dataclass(slots=True)
class EngineModel:
    """One engine's requests: how far apart those for the same adapter are, and how many."""

    locality: Locality = field(default_factory=Locality)
    traffic: HotSets = field(default_factory=HotSets)
    """Tenants' requests alone; the gate's take slots and are nobody's traffic."""
    bursts: Bursts = field(default_factory=Bursts)


class CapacityModels:
    """All engines' models and the fleet's."""

    def __init__(self) -> None:
        """Nothing has been asked for yet."""
        self._engines: dict[str, EngineModel] = {}
        self._held: dict[str, frozenset[str]] = {}
        self._fleet = FleetLocality(ENGINE_COUNTS)

    @property
    def engines(self) -> frozenset[str]:
        """Engines that something is known of."""
        return frozenset(self._engines) | self._held.keys()

    def feed_engine(self, engine: str, events: Iterable[TraceEvent]) -> None:
        """One engine's next events, in the order of its trace."""
        model = self._engines.setdefault(engine, EngineModel())
        access, touch = model.locality.access, model.locality.touch
        for event in events:
            if event.kind is not TraceKind.ADMITTED:
                touch(event.adapter, event.at)
            elif event.is_gate:
                # It takes a slot like any other; counted, its many hits would flatter every size.
                model.locality.occupy(event.adapter)
            else:
                access(event.adapter, event.at)
                model.traffic.used(event.adapter, event.at)
                model.bursts.used(event.adapter, event.at)

    def feed_fleet(self, events: Iterable[TraceEvent]) -> None:
        """The next events of all engines together, in order of time."""
        access, touch = self._fleet.access, self._fleet.touch
        for event in events:
            if event.kind is not TraceKind.ADMITTED:
                touch(event.adapter, event.at)
            elif event.is_gate:
                self._fleet.occupy(event.adapter)
            else:
                access(event.adapter, event.at)

    def hold(self, engine: str, names: frozenset[str]) -> None:
        """The versions that an engine holds now: those that it has let go leave its stack.

        A name leaves the fleet's stacks when no engine holds it any more.
        """
        gone = self._held.get(engine, frozenset()) - names
        self._held[engine] = names
        model = self._engines.get(engine)
        for name in gone:
            if model is not None:
                model.locality.forget(name)
                model.bursts.forget(name)
            if not any(name in held for held in self._held.values()):
                self._fleet.forget(name)

    def forget_engine(self, engine: str) -> None:
        """This engine is gone for good; what its requests told of the fleet stays."""
        self._engines.pop(engine, None)
        self._held.pop(engine, None)

    def engine_curve(self, engine: str, window_seconds: float, now: float) -> Curve | None:
        """None: nothing was ever read of this engine."""
        model = self._engines.get(engine)
        return None if model is None else model.locality.curve(window_seconds, now)

    def fleet_curve(self, engines: Iterable[str], window_seconds: float, now: float) -> Curve:
        """These engines together as they are: each has so many slots, their misses add up."""
        known = (self.engine_curve(engine, window_seconds, now) for engine in engines)
        return merge_curves([curve for curve in known if curve is not None])

    def hashed_curves(
        self, window_seconds: float, now: float, *, max_engines: int
    ) -> dict[int, Curve]:
        """By number of engines: the same requests, if each tenant had one engine."""
        return {
            count: self._fleet.curve(count, window_seconds, now)
            for count in ENGINE_COUNTS
            if count <= max_engines
        }

    def engine(self, engine: str) -> EngineModel | None:
        """One engine's model; None: nothing was ever read of it."""
        return self._engines.get(engine)
