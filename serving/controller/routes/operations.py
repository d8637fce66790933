"""/healthz, /readyz, /metrics: open to all, so they name no tenant and no adapter."""

from __future__ import annotations

from collections import Counter
from typing import get_args

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST

from serving.contract import EngineReport, VersionState
from serving.controller.auth import Context
from serving.controller.errors import RegistryUnavailable
from serving.controller.fleet_health import UNDER_WAY, EngineState
from serving.controller.routes.capacity import board_of
from serving.controller.routes.engines import engine_state

router = APIRouter(tags=["operations"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(request: Request, context: Context) -> Response:
    """The registry answers and the loop runs; 503 with the reason otherwise."""
    reasons = []
    try:
        await context.repository.fleet.revision()
    except RegistryUnavailable:
        reasons.append("registry_unavailable")
    if not request.app.state.is_loop_running():
        reasons.append("loop_stopped")
    body = {"status": "not ready" if reasons else "ready", "reasons": reasons}
    return JSONResponse(body, 503 if reasons else 200)


@router.get("/metrics")
async def metrics(request: Request, context: Context) -> Response:
    """Prometheus text format."""
    repository, board = context.repository, board_of(request)
    context.metrics.show_versions(
        await repository.versions.count_by_state(),
        age_seconds=await repository.versions.oldest_seconds(UNDER_WAY),
    )
    engines = await repository.fleet.engines()
    states = Counter(dict.fromkeys(get_args(EngineState), 0))
    states.update(engine_state(engine, context) for engine in engines)
    revision = await repository.fleet.revision()
    reports = [e.report for e in engines if engine_state(e, context) != "unreachable"]
    # By identity: engines of which there is nothing special to say share one list.
    lists = {id(report.versions): report for report in reports}
    outages = {key: _count_outages(report) for key, report in lists.items()}
    context.metrics.show_engines(
        states,
        lags={report.engine_id: max(0, revision - report.revision) for report in reports},
        outages={report.engine_id: outages[id(report.versions)] for report in reports},
    )
    context.metrics.show_capacity(await board.gauges())
    return Response(context.metrics.expose(), media_type=CONTENT_TYPE_LATEST)


def _count_outages(report: EngineReport) -> int:
    is_out = (VersionState.FAILED, VersionState.QUARANTINED)
    return sum(item.state in is_out for item in report.versions)
