"""/v1/capacity: what slots cost and how many are needed, from engines' own counts and traces."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Query, Request

from serving.capacity.plan import Goal
from serving.controller.auth import Admin, Context
from serving.controller.capacity.board import DEFAULT_GOAL, CapacityBoard
from serving.controller.capacity.engine_view import MAX_ADAPTERS
from serving.controller.capacity.schemas import (
    WINDOW_SECONDS,
    AdapterPage,
    CapacityOut,
    HistoryOut,
    Order,
    PlanOut,
    ResidencyIn,
    ResidencyOut,
    Search,
    SortField,
    Window,
)
from serving.controller.routes.bounded import BoundedRoute

router = APIRouter(prefix="/v1/capacity", tags=["capacity"], route_class=BoundedRoute)


def board_of(request: Request) -> CapacityBoard:
    """The board of the app that answers this request."""
    return cast("CapacityBoard", request.app.state.capacity)


Board = Annotated[CapacityBoard, Depends(board_of)]
Limit = Annotated[int, Query(ge=1, le=1000)]
Offset = Annotated[int, Query(ge=0)]
Ratio = Annotated[float | None, Query(gt=0, lt=1)]
Seconds = Annotated[float | None, Query(gt=0, le=60)]


@router.get("")
async def show_capacity(
    board: Board,
    _caller: Admin,
    window: Window = "1h",
    adapters: Annotated[int, Query(ge=0, le=MAX_ADAPTERS)] = MAX_ADAPTERS,
) -> CapacityOut:
    """Slots, residency, loads, evictions, hot sets and miss-ratio curves, per reachable engine.

    `adapters`: how many adapters' counts are listed for each engine, the busiest first.
    """
    return await board.capacity(WINDOW_SECONDS[window], n_adapters=adapters)


@router.get("/plan")
async def show_plan(
    board: Board,
    _caller: Admin,
    target_miss_ratio: Ratio = None,
    target_added_seconds: Seconds = None,
    window: Window = "1h",
) -> PlanOut:
    """Slots, engines and rank for a goal, with the reason in words; by default 5 % misses."""
    goal = Goal(miss_ratio=target_miss_ratio, added_seconds=target_added_seconds)
    if target_miss_ratio is None and target_added_seconds is None:
        goal = DEFAULT_GOAL
    return await board.plan(goal, WINDOW_SECONDS[window])


@router.get("/history")
async def show_history(
    board: Board,
    _caller: Admin,
    seconds: Annotated[float, Query(ge=60, le=7 * 86400)] = 3600.0,
    points: Annotated[int, Query(ge=2, le=500)] = 120,
    adapters: Annotated[int, Query(ge=0, le=200)] = 40,
) -> HistoryOut:
    """Requests, loads, evictions and residency over time, from samples of the engines' counts."""
    return await board.history(seconds, points=points, n_adapters=adapters)


@router.get("/adapters")
async def list_adapters(
    board: Board,
    _caller: Admin,
    search: Search = "",
    sort: SortField = "requests",
    order: Order = "desc",
    limit: Limit = 50,
    offset: Offset = 0,
) -> AdapterPage:
    """Every version with its counts over all reachable engines: searched, sorted, paged."""
    return await board.adapters(
        search=search, sort=sort, descending=order == "desc", limit=limit, offset=offset
    )


@router.put("/residency")
async def set_residency(
    body: ResidencyIn, board: Board, context: Context, caller: Admin
) -> ResidencyOut:
    """Keep hot adapters in their slots on purpose (`auto`), or leave all to LRU (`off`).

    `off` takes the wishes out of the next snapshot at once; `auto` computes new ones soon.
    """
    await context.repository.residency.set_mode(
        body.mode, before=context.settings.residency_mode, actor=caller.actor
    )
    return await board.residency()
