"""What the capacity routes and metrics show, kept as long as nothing has changed.

One per controller process. Rows of 10,000 adapters are joined once per report and move, a plan is
made once per look at the traces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from serving.capacity.curve import Curve, merge_curves
from serving.capacity.plan import Goal, choose_plan
from serving.contract import EngineReport
from serving.controller.capacity.adapter_table import VersionFacts, choose_rows, make_rows
from serving.controller.capacity.engine_view import MAX_ADAPTERS, engine_view
from serving.controller.capacity.history import Steps, make_history
from serving.controller.capacity.models import CapacityModels
from serving.controller.capacity.observer import CapacityObserver
from serving.controller.capacity.plan_view import (
    curve_view,
    fleet_facts,
    load_seconds,
    plan_view,
    plan_without_engines,
)
from serving.controller.capacity.schemas import (
    AdapterPage,
    AdapterRowOut,
    CapacityOut,
    CurveOut,
    HistoryOut,
    PlanOut,
    ResidencyOut,
    TraceOut,
)
from serving.controller.capacity_metrics import SHOWN_SLOTS, CapacityGauges
from serving.controller.context import ControllerContext
from serving.controller.registry.fleet import ObservedEngine

DEFAULT_GOAL = Goal(miss_ratio=0.05)
_GAUGE_SECONDS = 3600.0
_MAX_PLANS = 32
"""Goals and windows whose plan is kept; arbitrary."""


@dataclass(slots=True)
class _Versions:
    stamp: tuple[int, int]
    facts: list[VersionFacts]


@dataclass(slots=True)
class _Rows:
    stamp: tuple[int, int]
    reports: list[EngineReport]
    rows: list[AdapterRowOut]


@dataclass(slots=True)
class _Plan:
    turns: int
    stamp: tuple[int, int]
    reports: list[EngineReport]
    plan: PlanOut


class CapacityBoard:
    """Answers about capacity, from the registry and the observer's models."""

    def __init__(self, context: ControllerContext, observer: CapacityObserver) -> None:
        """Nothing is known yet."""
        self._context, self.observer = context, observer
        self._versions = _Versions((-1, -1), [])
        self._rows = _Rows((-1, -1), [], [])
        self._plans: dict[tuple[Goal, float], _Plan] = {}

    async def capacity(
        self, window_seconds: float, *, n_adapters: int = MAX_ADAPTERS
    ) -> CapacityOut:
        """Every reachable engine with the curve of its trace, and the fleet's curve."""
        engines = await self._context.repository.fleet.engines()
        reports = self._reachable(engines)
        known = {report.engine_id for report in reports}
        curves, fleet = await self._curves(reports, window_seconds)
        return CapacityOut(
            window_seconds=window_seconds,
            engines=[
                engine_view(
                    report,
                    trace=self._trace(report),
                    curve=self._curve(curves.get(report.engine_id), [report]),
                    n_adapters=n_adapters,
                )
                for report in reports
            ],
            unreachable=sorted(
                e.report.engine_id for e in engines if e.report.engine_id not in known
            ),
            fleet=self._curve(fleet, reports),
            residency=await self.residency(),
        )

    async def plan(self, goal: Goal, window_seconds: float) -> PlanOut:
        """The smallest fleet that reaches the goal, as far as the traces of the window tell."""
        reports = await self.reports()
        if not reports:
            return plan_without_engines(goal)
        versions, turns = await self.versions(), self.observer.turns
        known, stamp = self._plans.get((goal, window_seconds)), self._versions.stamp
        if known and (known.turns, known.stamp) == (turns, stamp) and _same(known.reports, reports):
            return known.plan
        facts = fleet_facts(reports, versions)
        now, engines = self._context.clock(), [report.engine_id for report in reports]

        def make(models: CapacityModels) -> PlanOut:
            curves = models.hashed_curves(window_seconds, now, max_engines=2 * len(engines) + 1)
            # Today's requests went where they went, whatever spread them.
            curves[len(engines)] = models.fleet_curve(engines, window_seconds, now)
            return plan_view(choose_plan(curves, facts, goal), facts)

        plan = await self.observer.ask(make)
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[goal, window_seconds] = _Plan(turns, stamp, reports, plan)
        return plan

    async def gauges(self) -> CapacityGauges:
        """What /metrics shows: the curve and the plan of the last hour, for the default goal."""
        reports = await self.reports()
        if not reports:
            return CapacityGauges()
        plan = await self.plan(DEFAULT_GOAL, _GAUGE_SECONDS)
        wanted = plan.recommended if plan.is_enough_data else None
        shown = {*SHOWN_SLOTS, plan.now.gpu_slots or 1, wanted.gpu_slots if wanted else 1}
        _, curve = await self._curves(reports, _GAUGE_SECONDS)
        return CapacityGauges(
            miss_ratio=_known({n: curve.miss_ratio(n) for n in sorted(shown)} if curve else {}),
            loads_per_minute=_known(
                {n: curve.loads_per_minute(n) for n in sorted(shown)} if curve else {}
            ),
            recommended_slots={"gpu": wanted.gpu_slots, "cpu": wanted.cpu_slots} if wanted else {},
            configured_slots=_known({"gpu": plan.now.gpu_slots, "cpu": plan.now.cpu_slots}),
            recommended_engines=wanted.engines if wanted else None,
            requests=curve.n_requests if curve else None,
            lag_events={
                report.engine_id: trace.lag_events
                for report in reports
                if (trace := self._trace(report)).lag_events is not None
            },
        )

    async def history(self, seconds: float, *, points: int, n_adapters: int) -> HistoryOut:
        """Sampled series over the last `seconds`."""
        steps = Steps.covering(seconds, points, self._context.clock())
        samples = await self._context.repository.samples.since(steps.start)
        return await asyncio.to_thread(make_history, samples, steps, n_adapters=n_adapters)

    async def adapters(
        self, *, search: str, sort: str, descending: bool, limit: int, offset: int
    ) -> AdapterPage:
        """One page of the table of all versions."""
        rows = await self._all_rows()
        chosen = choose_rows(rows, search=search, sort=sort, descending=descending)
        return AdapterPage.model_construct(
            total=len(chosen), adapters=chosen[offset : offset + limit]
        )

    async def residency(self) -> ResidencyOut:
        """Mode and wishes."""
        registry = self._context.repository.residency
        wishes = await registry.wishes()
        return ResidencyOut.model_validate(
            {
                "mode": await registry.mode() or self._context.settings.residency_mode,
                "wishes": {engine: wish.hot for engine, wish in wishes.items()},
            }
        )

    async def reports(self) -> list[EngineReport]:
        """Reports of the reachable engines."""
        return self._reachable(await self._context.repository.fleet.engines())

    async def versions(self) -> list[VersionFacts]:
        """All versions, read again only after something has moved."""
        registry = self._context.repository.capacity
        stamp = await registry.stamp()
        if self._versions.stamp != stamp:
            self._versions = _Versions(stamp, await registry.version_facts())
        return self._versions.facts

    async def _all_rows(self) -> list[AdapterRowOut]:
        reports, versions = await self.reports(), await self.versions()
        stamp, known = self._versions.stamp, self._rows
        if known.stamp != stamp or not _same(known.reports, reports):
            rows = await asyncio.to_thread(make_rows, versions, reports)
            known = self._rows = _Rows(stamp, reports, rows)
        return known.rows

    async def _curves(
        self, reports: Sequence[EngineReport], window_seconds: float
    ) -> tuple[dict[str, Curve], Curve | None]:
        now, names = self._context.clock(), [report.engine_id for report in reports]

        def compute(models: CapacityModels) -> tuple[dict[str, Curve], Curve | None]:
            found = {name: models.engine_curve(name, window_seconds, now) for name in names}
            curves = {name: curve for name, curve in found.items() if curve is not None}
            return curves, merge_curves(list(curves.values())) if curves else None

        return await self.observer.ask(compute)

    def _curve(self, curve: Curve | None, reports: Sequence[EngineReport]) -> CurveOut | None:
        if curve is None or not reports:
            return None
        return curve_view(
            curve,
            cpu_slots=max(report.cpu_slots for report in reports),
            loads=load_seconds(reports),
            show_slots=[report.gpu_slots for report in reports],
        )

    def _trace(self, report: EngineReport) -> TraceOut:
        cursor = self.observer.cursors.get(report.engine_id)
        if cursor is None:
            return TraceOut(
                position=report.trace_position,
                next=None,
                lag_events=None,
                lost_events=0,
                error=None,
            )
        return TraceOut(
            position=max(report.trace_position, cursor.end),
            next=cursor.next if cursor.has_read else None,
            lag_events=max(0, max(report.trace_position, cursor.end) - cursor.next),
            lost_events=cursor.lost_events,
            error=cursor.error,
        )

    def _reachable(self, engines: Sequence[ObservedEngine]) -> list[EngineReport]:
        now, timeout = self._context.clock(), self._context.settings.engine_timeout_seconds
        return [e.report for e in engines if e.is_reachable(now, timeout)]


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


def _known(values: Mapping[_Key, _Value | None]) -> dict[_Key, _Value]:
    return {key: value for key, value in values.items() if value is not None}


def _same(old: Sequence[EngineReport], new: Sequence[EngineReport]) -> bool:
    """Whether no report was read again; one that was not is the same object."""
    return len(old) == len(new) and all(a is b for a, b in zip(old, new, strict=True))
