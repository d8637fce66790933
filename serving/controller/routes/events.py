"""/v1/events: the audit trail, as a list or as Server-Sent Events."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from serving.controller.auth import (
    AnyCaller,
    Caller,
    CallerKind,
    Context,
    Scope,
    identify,
    may,
)
from serving.controller.context import ControllerContext
from serving.controller.errors import Forbidden, Unauthenticated
from serving.controller.schemas import EventList, EventOut

router = APIRouter(prefix="/v1/events", tags=["events"])

_LOOK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0
_BATCH = 200


@router.get("", response_model=EventList)
async def list_events(
    request: Request,
    context: Context,
    caller: AnyCaller,
    tenant: str | None = None,
    subject: str | None = None,
    before: int | None = None,
    after: int | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    accept: Annotated[str, Header()] = "*/*",
    last_event_id: Annotated[int | None, Header()] = None,
) -> EventList | Response:
    """The newest rows, or, with `Accept: text/event-stream`, rows as they are written.

    A stream goes on after `Last-Event-ID` (or `after`), else begins with what comes next. A
    tenant's key sees its own tenant's rows.
    """
    tenant = _visible(caller, tenant)
    audit = context.repository.audit
    if "text/event-stream" in accept:
        start = last_event_id if last_event_id is not None else after
        if start is None:
            newest = await audit.latest(limit=1)
            start = newest[0].id if newest else 0
        token = request.headers["authorization"].partition(" ")[2]
        return StreamingResponse(
            _stream(context, token.strip(), tenant, start),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
    if after is not None:
        rows = (await audit.after(after, tenant_id=tenant, limit=limit))[::-1]
    else:
        rows = await audit.latest(tenant_id=tenant, subject=subject, before=before, limit=limit)
    return EventList(
        events=[EventOut.of(row) for row in rows], last_id=rows[0].id if rows else after or 0
    )


def _visible(caller: Caller, tenant: str | None) -> str | None:
    if caller.kind is CallerKind.ADMIN:
        return tenant
    if caller.kind is not CallerKind.TENANT or caller.tenant_id is None:
        raise Forbidden(needed="the admin token")
    may(caller, tenant or caller.tenant_id, Scope.READ)
    return caller.tenant_id


async def _stream(
    context: ControllerContext, token: str, tenant: str | None, last_id: int
) -> AsyncIterator[bytes]:
    """Rows after `last_id`, for as long as the token is good and the process lives."""
    checked_at = context.clock()
    yield b": follows the audit trail\n\n"
    while not context.notifier.is_closed:
        rows = await context.repository.audit.after(last_id, tenant_id=tenant, limit=_BATCH)
        for row in rows:
            last_id = row.id
            data = EventOut.of(row).model_dump_json()
            yield f"id: {row.id}\nevent: audit\ndata: {data}\n\n".encode()
        if len(rows) == _BATCH:
            continue
        # After the rows, so that the last that a revoked key sees is its own revocation.
        if context.clock() - checked_at >= _HEARTBEAT_SECONDS:
            checked_at = context.clock()
            try:
                await identify(context, token)
            except Unauthenticated:
                return
            yield b": still here\n\n"
        await context.notifier.wait_change(_LOOK_SECONDS)
