"""/internal/v1: what engines pull and report. Engines' token alone."""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Request, Response

from adapters.errors import ArtifactTooLarge
from serving.contract import FleetSnapshot, decode_report, encode, hash_key
from serving.controller.auth import Context, Engine
from serving.controller.context import ControllerContext, store_url
from serving.controller.errors import RequestInvalid
from serving.controller.snapshot import compile_snapshot

router = APIRouter(prefix="/internal/v1", tags=["internal"], include_in_schema=False)

MAX_WAIT_SECONDS = 60.0
MAX_REVISION = 2**53
"""Larger whole numbers are no longer exact in every JSON reader; `restored` stays far below."""
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 20.0
"""Many reports long: an engine whose reports do not come through shall follow all the same."""
MAX_REPORT_BYTES = 16 * 1024**2
"""About 40,000 adapters' counts; arbitrary."""


class SnapshotCache:
    """The last compiled snapshot: many engines ask for the same revision."""

    def __init__(self) -> None:
        self._revision, self._body = -1, b""

    async def fetch(self, context: ControllerContext) -> tuple[int, bytes]:
        """(revision, JSON) of a snapshot that is at least as new as the notifier's revision."""
        if self._revision < context.notifier.revision or self._revision < 0:
            snapshot = await read_snapshot(context)
            if snapshot.revision >= self._revision:
                self._revision, self._body = snapshot.revision, encode(snapshot)
        return self._revision, self._body


async def read_snapshot(context: ControllerContext) -> FleetSnapshot:
    """Compile the present rows."""
    return compile_snapshot(
        await context.repository.fleet.snapshot_rows(),
        fleet=context.settings.fleet,
        store_url=store_url(context.settings),
        gate_key_hash=hash_key(context.gate_key, cluster_secret=context.cluster_secret),
    )


@router.get("/snapshot")
async def pull_snapshot(
    request: Request,
    context: Context,
    _caller: Engine,
    after: Annotated[int, Query(ge=-1, le=MAX_REVISION)] = -1,
    wait: Annotated[float, Query(ge=0, le=MAX_WAIT_SECONDS)] = 0.0,
    engine: Annotated[str, Query(max_length=255)] = "",
) -> Response:
    """The snapshot, as soon as its revision is above `after`; 304 when none comes in time.

    An engine that is ahead of the registry says that the registry was restored from a backup: it
    goes on from there, once the engine has reported what it holds.
    """
    notifier, fleet = context.notifier, context.repository.fleet
    deadline = asyncio.get_running_loop().time() + wait
    if engine and not await _has_reported(context, engine, following=after, wait=wait):
        return Response(status_code=304)
    if after > notifier.revision:
        await fleet.go_on_above(after, engine_id=engine)
        notifier.publish(await fleet.revision())
    left = max(0.0, deadline - asyncio.get_running_loop().time())
    if not await notifier.wait_beyond(after, left):
        return Response(status_code=304)
    cache: SnapshotCache = request.app.state.snapshots
    revision, body = await cache.fetch(context)
    headers = {"ETag": f'"{revision}"', "Cache-Control": "no-store"}
    return Response(body, media_type="application/json", headers=headers)


async def _has_reported(
    context: ControllerContext, engine: str, *, following: int, wait: float
) -> bool:
    """Whether it was heard what an engine holds that this registry never gave out.

    The snapshot would make the engine drop it before anybody knew.
    """
    fleet, loop = context.repository.fleet, asyncio.get_running_loop()
    deadline, before = loop.time() + wait, await fleet.heard(engine, following=following)
    if not before.is_owed:
        return True
    while (left := deadline - loop.time()) > 0 and not context.notifier.is_closed:
        await context.notifier.wait_change(min(left, _LOOK_SECONDS))
        now = await fleet.heard(engine, following=following)
        if not now.is_owed or now.report_token != before.report_token:
            return True
    return wait >= _PATIENCE_SECONDS and not context.notifier.is_closed


@router.post("/engines/{engine_id}/report", status_code=204)
async def take_report(
    engine_id: str, request: Request, context: Context, _caller: Engine
) -> Response:
    """Keep one engine's observation."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_REPORT_BYTES:
            raise ArtifactTooLarge(what="engine report", limit=MAX_REPORT_BYTES)
    try:
        report = decode_report(bytes(body))
    except msgspec.DecodeError as exc:
        place = {"code": "report", "subject": "body", "title": str(exc)[:300]}
        raise RequestInvalid(errors=[place]) from exc
    if report.engine_id != engine_id:
        place = {"code": "engine_id", "subject": "body.engine_id", "title": "not the path's"}
        raise RequestInvalid(errors=[place])
    await context.repository.fleet.record_report(
        report, history_seconds=context.settings.capacity_history_seconds
    )
    context.hint()
    return Response(status_code=204)
