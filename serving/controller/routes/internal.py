"""/internal/v1: what engines pull and report. Engines' token alone.

Plain routes, without FastAPI's reading of parameters: a promotion is four requests of every engine
at the same moment, and each one's share of the framework is time that the last engine waits.
"""

from __future__ import annotations

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Request, Response
from msgspec import Meta

from adapters.errors import ArtifactTooLarge
from serving.contract import decode_report
from serving.controller.auth import context_of, for_engines
from serving.controller.context import ControllerContext
from serving.controller.errors import RequestInvalid
from serving.controller.snapshot_keeper import Present, SnapshotKeeper
from serving.snapshot_delta import MEDIA_TYPE, TAG_HEADER

router = APIRouter()

MAX_WAIT_SECONDS = 60.0
MAX_REVISION = 2**53
"""Larger whole numbers are no longer exact in every JSON reader; `restored` stays far below."""
_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 20.0
"""Many reports long: an engine whose reports do not come through shall follow all the same."""
MAX_REPORT_BYTES = 16 * 1024**2
"""About 40,000 adapters' counts; arbitrary."""


class Pull(msgspec.Struct, frozen=True):
    """What an engine asks for."""

    after: Annotated[int, Meta(ge=-1, le=MAX_REVISION)] = -1
    """The revision that it follows; -1: none yet."""
    wait: Annotated[float, Meta(ge=0, le=MAX_WAIT_SECONDS)] = 0.0
    """Seconds that it waits for a later one."""
    engine: Annotated[str, Meta(max_length=255)] = ""
    base: Annotated[str, Meta(max_length=64)] = ""
    """The tag of the snapshot that it holds."""


async def pull_snapshot(request: Request) -> Response:
    """The snapshot, as soon as its revision is above `after`; 304 when none comes in time.

    With `base` the engine is sent what has changed since, where this process knows it. An engine
    that is ahead of the registry says that the registry was restored from a backup: it goes on from
    there, once the engine has reported what it holds.

    Raises:
        RequestInvalid: what is asked for is not a `Pull`.
    """
    context = context_of(request)
    asked = _asked(request)
    after, wait, engine = asked.after, asked.wait, asked.engine
    notifier, fleet = context.notifier, context.repository.fleet
    keeper: SnapshotKeeper = request.app.state.snapshots
    loop = asyncio.get_running_loop()
    deadline = loop.time() + wait
    may_be_foreign = _may_be_foreign(keeper.present, after)
    if may_be_foreign and not await _may_follow(context, engine, following=after, wait=wait):
        return Response(status_code=304)
    if after > notifier.revision:
        await fleet.go_on_above(after, engine_id=engine)
        notifier.publish(await fleet.revision())
    if not await notifier.wait_beyond(after, max(0.0, deadline - loop.time())):
        return Response(status_code=304)
    present, left = await keeper.fetch(context), max(0.0, deadline - loop.time())
    # The registry may have been restored while it waited.
    is_lost = not may_be_foreign and present.is_foreign(after)
    if is_lost and not await _may_follow(context, engine, following=after, wait=left):
        return Response(status_code=304)
    return _answer(context, keeper, asked.base)


def _asked(request: Request) -> Pull:
    try:
        asked = msgspec.convert(dict(request.query_params), Pull, strict=False)
    except msgspec.ValidationError as exc:
        place = {"code": "query", "subject": "query", "title": str(exc)[:300]}
        raise RequestInvalid(errors=[place]) from exc
    return asked


def _answer(context: ControllerContext, keeper: SnapshotKeeper, base: str) -> Response:
    # The latest by now; nobody waits between this and its bytes.
    present = keeper.present
    assert present is not None  # noqa: S101 - it was fetched
    headers = {
        "ETag": f'"{present.revision}"',
        "Cache-Control": "no-store",
        TAG_HEADER: present.held.tag,
    }
    body = keeper.delta(context, base) if base else None
    if body is None:
        return Response(keeper.whole(), media_type="application/json", headers=headers)
    return Response(body, media_type=MEDIA_TYPE, headers=headers)


def _may_be_foreign(present: Present | None, following: int) -> bool:
    # Without a look at the registry: what is known of it says nothing against this engine.
    return following >= 0 and (present is None or present.is_foreign(following))


async def _may_follow(
    context: ControllerContext, engine: str, *, following: int, wait: float
) -> bool:
    return not engine or await _has_reported(context, engine, following=following, wait=wait)


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


async def take_report(request: Request) -> Response:
    """Keep one engine's observation; 409 asks for all of it: it refers to what is not known.

    Raises:
        RequestInvalid, ArtifactTooLarge: it is no report, another engine's, or beyond all measure.
    """
    context, engine_id = context_of(request), request.path_params["engine_id"]
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
    fleet, tag = context.repository.fleet, report.rest_proven_in
    if tag and fleet.history.find(tag) is None:
        # Just started: it may be the present one all the same.
        await request.app.state.snapshots.fetch(context)
        if fleet.history.find(tag) is None:
            # It refers to what another process, or this one long ago, has given out.
            return Response(status_code=409)
    recorded = await fleet.record_report(
        report, history_seconds=context.settings.capacity_history_seconds
    )
    if recorded.is_news:
        context.hint()
    return Response(status_code=204)


_PATHS = (
    ("/internal/v1/snapshot", "GET", pull_snapshot),
    ("/internal/v1/engines/{engine_id}/report", "POST", take_report),
)
for _path, _method, _endpoint in _PATHS:
    router.add_route(_path, for_engines(_endpoint), [_method], include_in_schema=False)
