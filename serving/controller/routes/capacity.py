"""/v1/capacity: what slots cost and how many are needed, from engines' own counts and traces."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from serving.controller.auth import Admin, Context
from serving.controller.capacity.adapter_table import choose_rows, make_rows
from serving.controller.capacity.engine_view import engine_view
from serving.controller.capacity.schemas import (
    WINDOW_SECONDS,
    AdapterPage,
    CapacityOut,
    GoalOut,
    HistoryOut,
    Order,
    PlanOut,
    ResidencyIn,
    ResidencyOut,
    Search,
    ShapeNowOut,
    SortField,
    Window,
)
from serving.controller.context import ControllerContext
from serving.controller.errors import RequestInvalid
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.routes.bounded import BoundedRoute
from serving.controller.routes.engines import engine_state

router = APIRouter(prefix="/v1/capacity", tags=["capacity"], route_class=BoundedRoute)

DEFAULT_MISS_RATIO = 0.05

Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0)]
Ratio = Annotated[float | None, Query(gt=0, lt=1)]
Seconds = Annotated[float | None, Query(gt=0, le=60)]


@router.get("")
async def show_capacity(context: Context, _caller: Admin, window: Window = "1h") -> CapacityOut:
    """Slots, residency, loads, evictions, hot sets and miss-ratio curves, per reachable engine."""
    engines = await context.repository.fleet.engines()
    return CapacityOut(
        window_seconds=WINDOW_SECONDS[window],
        engines=[engine_view(engine.report) for engine in reachable(engines, context)],
        unreachable=sorted(
            e.report.engine_id for e in engines if engine_state(e, context) == "unreachable"
        ),
        fleet=None,
        residency=ResidencyOut(mode="auto", wishes={}),
    )


@router.get("/plan")
async def show_plan(
    context: Context,
    _caller: Admin,
    target_miss_ratio: Ratio = None,
    target_added_seconds: Seconds = None,
    window: Window = "1h",
) -> PlanOut:
    """Slots, engines and rank for a goal, with the reason in words; by default 5 % misses."""
    goal = goal_of(target_miss_ratio, target_added_seconds)
    reports = [e.report for e in reachable(await context.repository.fleet.engines(), context)]
    now = ShapeNowOut(
        engines=len(reports),
        gpu_slots=max((report.gpu_slots for report in reports), default=None),
        cpu_slots=max((report.cpu_slots for report in reports), default=None),
        max_rank=max((report.max_rank for report in reports), default=None),
        miss_ratio=None,
        loads_per_minute=None,
        added_seconds=None,
    )
    return PlanOut(
        goal=goal,
        is_enough_data=False,
        now=now,
        recommended=None,
        predicted=None,
        reasons=[],
        warnings=[],
    )


@router.get("/history")
async def show_history(
    context: Context,
    _caller: Admin,
    seconds: Annotated[float, Query(ge=60, le=7 * 86400)] = 3600.0,
    points: Annotated[int, Query(ge=2, le=500)] = 120,
    adapters: Annotated[int, Query(ge=0, le=200)] = 40,
) -> HistoryOut:
    """Requests, loads, evictions and residency over time, from samples of the engines' counts."""
    step = max(10.0, seconds / points)
    return HistoryOut(step_seconds=step, times=[], engines={}, adapters=[])


@router.get("/adapters")
async def list_adapters(
    context: Context,
    _caller: Admin,
    search: Search = "",
    sort: SortField = "requests",
    order: Order = "desc",
    limit: Limit = 50,
    offset: Offset = 0,
) -> AdapterPage:
    """Every version with its counts over all reachable engines: searched, sorted, paged."""
    reports = [e.report for e in reachable(await context.repository.fleet.engines(), context)]
    rows = make_rows(await context.repository.capacity.version_facts(), reports)
    chosen = choose_rows(rows, search=search, sort=sort, descending=order == "desc")
    return AdapterPage(total=len(chosen), adapters=chosen[offset : offset + limit])


@router.put("/residency")
async def set_residency(body: ResidencyIn, context: Context, caller: Admin) -> ResidencyOut:
    """Keep hot adapters in their slots on purpose (`auto`), or leave all to LRU (`off`)."""
    return ResidencyOut(mode=body.mode, wishes={})


def goal_of(miss_ratio: float | None, added_seconds: float | None) -> GoalOut:
    """The goal of a plan.

    Raises:
        RequestInvalid: two goals at once.
    """
    if miss_ratio is not None and added_seconds is not None:
        title = "one goal at a time: target_miss_ratio or target_added_seconds"
        place = {"code": "two_goals", "subject": "query.target_added_seconds", "title": title}
        raise RequestInvalid(errors=[place])
    if miss_ratio is None and added_seconds is None:
        miss_ratio = DEFAULT_MISS_RATIO
    return GoalOut(miss_ratio=miss_ratio, added_seconds=added_seconds)


def reachable(engines: list[ObservedEngine], context: ControllerContext) -> list[ObservedEngine]:
    """Engines that reported lately."""
    return [engine for engine in engines if engine_state(engine, context) != "unreachable"]
