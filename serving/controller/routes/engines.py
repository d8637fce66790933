"""/v1/engines: what the engines themselves reported, never an estimate."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from fastapi import APIRouter, Response

from serving.controller.auth import Admin, Context
from serving.controller.clearance import blockers, is_waiting
from serving.controller.context import ControllerContext
from serving.controller.errors import NotFound
from serving.controller.fleet_health import EngineState
from serving.controller.gate_wait import GateWait, find_gate_waits
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.schemas import ClearIn, EngineList, EngineOut
from serving.controller.staleness import kind_of

router = APIRouter(prefix="/v1", tags=["engines"])


def engine_state(engine: ObservedEngine, context: ControllerContext) -> EngineState:
    """Unreachable is not absent: what the last report said may still hold."""
    if not engine.is_reachable(context.clock(), context.settings.engine_timeout_seconds):
        return "unreachable"
    if engine.report.stopping or engine.is_leaving:
        return "stopping"
    if is_waiting(engine.report):
        return "waiting_for_gate"
    return "ready" if engine.report.is_ready else "starting"


@router.get("/engines")
async def list_engines(context: Context, _caller: Admin) -> EngineList:
    """All engines, unreachable ones too."""
    engines = await context.repository.fleet.engines()
    waits = await find_gate_waits(context, engines)
    return EngineList(engines=[_shown(engine, context, waits) for engine in engines])


@router.get("/engines/{engine_id}")
async def show_engine(engine_id: str, context: Context, _caller: Admin) -> EngineOut:
    """One engine."""
    engine = await _find(engine_id, context)
    return _shown(engine, context, await find_gate_waits(context, [engine]))


@router.post("/engines/{engine_id}/clear")
async def clear_engine(engine_id: str, body: ClearIn, context: Context, caller: Admin) -> EngineOut:
    """Let tenants reach engines of this one's kind, whatever the gate says or has not said yet.

    For all engines of its build, base and number type, and for good; the audit says who and why.
    """
    engine = await _find(engine_id, context)
    own_base = "" if context.card is None else context.card.revision
    kind = kind_of(engine.report, own_base=own_base)
    standings = await context.repository.clearances.standings(kind)
    evidence = {
        "engine": engine_id,
        "blocked_by": [item.to_json() for item in blockers(standings)],
    }
    await context.repository.clearances.clear(
        kind, actor=caller.actor, reason=body.reason, evidence=evidence
    )
    return _shown(engine, context, await find_gate_waits(context, [engine]))


@router.delete("/engines/{engine_id}", status_code=204)
async def forget_engine(engine_id: str, context: Context, caller: Admin) -> Response:
    """Say that an engine is gone for good; one that lives comes back with its next report."""
    await context.repository.fleet.forget_engine(engine_id, actor=caller.actor)
    context.hint()
    return Response(status_code=204)


async def _find(engine_id: str, context: ControllerContext) -> ObservedEngine:
    for engine in await context.repository.fleet.engines():
        if engine.report.engine_id == engine_id:
            return engine
    raise NotFound(kind="engine", name=engine_id)


def _shown(
    engine: ObservedEngine, context: ControllerContext, waits: Mapping[str, GateWait]
) -> EngineOut:
    return EngineOut(
        id=engine.report.engine_id,
        state=engine_state(engine, context),
        seen_at=engine.seen_at,
        report=msgspec.to_builtins(engine.report),
        gate=waits.get(engine.report.engine_id),
    )
