"""/v1/engines: what the engines themselves reported, never an estimate."""

from __future__ import annotations

from typing import Literal

import msgspec
from fastapi import APIRouter, Response

from serving.controller.auth import Admin, Context
from serving.controller.context import ControllerContext
from serving.controller.errors import NotFound
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.schemas import EngineList, EngineOut

router = APIRouter(prefix="/v1", tags=["engines"])


def engine_state(
    engine: ObservedEngine, context: ControllerContext
) -> Literal["ready", "starting", "unreachable"]:
    """Unreachable is not absent: what the last report said may still hold."""
    if not engine.is_reachable(context.clock(), context.settings.engine_timeout_seconds):
        return "unreachable"
    return "ready" if engine.report.is_ready else "starting"


@router.get("/engines")
async def list_engines(context: Context, _caller: Admin) -> EngineList:
    """All engines, unreachable ones too."""
    engines = await context.repository.fleet.engines()
    return EngineList(engines=[_shown(engine, context) for engine in engines])


@router.get("/engines/{engine_id}")
async def show_engine(engine_id: str, context: Context, _caller: Admin) -> EngineOut:
    """One engine."""
    for engine in await context.repository.fleet.engines():
        if engine.report.engine_id == engine_id:
            return _shown(engine, context)
    raise NotFound(kind="engine", name=engine_id)


@router.delete("/engines/{engine_id}", status_code=204)
async def forget_engine(engine_id: str, context: Context, caller: Admin) -> Response:
    """Say that an engine is gone for good; one that lives comes back with its next report."""
    await context.repository.fleet.forget_engine(engine_id, actor=caller.actor)
    context.hint()
    return Response(status_code=204)


def _shown(engine: ObservedEngine, context: ControllerContext) -> EngineOut:
    return EngineOut(
        id=engine.report.engine_id,
        state=engine_state(engine, context),
        seen_at=engine.seen_at,
        report=msgspec.to_builtins(engine.report),
    )
