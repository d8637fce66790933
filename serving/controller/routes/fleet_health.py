"""/v1/fleet: the state of controller, engines and versions in trouble, in one small answer."""

from __future__ import annotations

from fastapi import APIRouter, Request

from serving.controller.auth import Admin, Context
from serving.controller.fleet_health import (
    MAX_TROUBLES,
    REFUSED,
    UNDER_WAY,
    FleetHealth,
    add_reasons,
    describe_engine,
    find_troubles,
)
from serving.controller.gate_wait import GateWait, find_gate_waits
from serving.controller.routes.engines import engine_state

router = APIRouter(prefix="/v1", tags=["engines"])


@router.get("/fleet")
async def show_fleet(request: Request, context: Context, _caller: Admin) -> FleetHealth:
    """What an operator looks at first; engines that are unreachable are listed as such."""
    repository = context.repository
    revision = await repository.fleet.revision()
    engines = await repository.fleet.engines()
    states = [engine_state(engine, context) for engine in engines]
    reachable = [
        engine.report
        for engine, state in zip(engines, states, strict=True)
        if state != "unreachable"
    ]
    rows = await repository.versions.all(states=UNDER_WAY | REFUSED)
    waits = await find_gate_waits(context, engines)
    now = context.clock()
    troubles = find_troubles(rows, reachable, now=now)
    shown = troubles[:MAX_TROUBLES]
    refused = [trouble.name for trouble in shown if trouble.kind == "refused"]
    add_reasons(shown, await repository.audit.evidence_of_moves(refused, REFUSED))
    is_running = request.app.state.is_loop_running()
    return FleetHealth(
        at=now,
        is_ready=is_running,
        reasons=[] if is_running else ["loop_stopped"],
        revision=revision,
        engines=[
            describe_engine(
                engine,
                state=state,
                revision=revision,
                waits_for=_summary(waits.get(engine.report.engine_id)),
            )
            for engine, state in zip(engines, states, strict=True)
        ],
        versions=await repository.versions.count_by_state(),
        n_troubles=len(troubles),
        troubles=shown,
    )


def _summary(wait: GateWait | None) -> str | None:
    return None if wait is None else wait.summary
