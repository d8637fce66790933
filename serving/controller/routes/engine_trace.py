"""/v1/engines/{id}/trace: an engine's access trace as JSON lines, passed on page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from serving.contract import TraceEvent, TracePage
from serving.controller.auth import Admin, Context
from serving.controller.capacity.trace_client import TraceClient
from serving.controller.context import ControllerContext
from serving.controller.errors import NotFound, TraceUnavailable
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.routes.engines import engine_state

router = APIRouter(prefix="/v1", tags=["engines"])

MEDIA_TYPE = "application/x-ndjson"
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {MEDIA_TYPE: {}}, "description": "One event a line, oldest first."}
}


@router.get("/engines/{engine_id}/trace", response_class=StreamingResponse, responses=_ANSWER)
async def download_trace(
    engine_id: str, context: Context, _caller: Admin, after: Annotated[int, Query(ge=0)] = 0
) -> StreamingResponse:
    """The events that the engine's ring holds from position `after` on, up to now; no content.

    An engine that stops answering midway cuts the download off, so that it never looks whole.
    """
    engine = await _find(context, engine_id)
    if engine_state(engine, context) == "unreachable":
        raise TraceUnavailable(engine=engine_id, reason="no report for too long")
    client = TraceClient(context.cluster_secret)
    try:
        first = await client.page(engine_id, engine.report.url, after=after)
    except TraceUnavailable:
        await client.close()
        raise
    return StreamingResponse(
        _lines(client, engine, first),
        media_type=MEDIA_TYPE,
        headers={
            "Cache-Control": "no-store",
            "Content-Disposition": f'attachment; filename="trace-{first.first}.jsonl"',
        },
    )


async def _find(context: ControllerContext, engine_id: str) -> ObservedEngine:
    for engine in await context.repository.fleet.engines():
        if engine.report.engine_id == engine_id:
            return engine
    raise NotFound(kind="engine", name=engine_id)


async def _lines(
    client: TraceClient, engine: ObservedEngine, page: TracePage
) -> AsyncIterator[bytes]:
    """What the trace held when the download began; it would never end at a busy engine else."""
    end = page.end
    async with client:
        while True:
            yield b"".join(_line(event) for event in page.events if event.position < end)
            if page.next >= end:
                return
            page = await client.page(engine.report.engine_id, engine.report.url, after=page.next)


def _line(event: TraceEvent) -> bytes:
    shown = {**msgspec.structs.asdict(event), "kind": event.kind.name.lower()}
    return msgspec.json.encode(shown) + b"\n"
