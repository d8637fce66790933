"""One version's way as Server-Sent Events: each change of state or progress, then the end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

from serving.controller.auth import Scope, identify, may
from serving.controller.context import ControllerContext
from serving.controller.errors import Forbidden, NotFound, Unauthenticated
from serving.controller.lifecycle import State
from serving.controller.registry.tables import VersionRow
from serving.controller.schemas import VersionOut

MEDIA_TYPE = "text/event-stream"

_LOOK_SECONDS = 0.5
"""How long a change by another replica may go unseen; progress is written about as often."""
_HEARTBEAT_SECONDS = 5.0
_SETTLED = frozenset(
    {State.REJECTED, State.FAILED, State.INCONCLUSIVE, State.LIVE, State.SUPERSEDED, State.RETIRED}
)


def stream_version(context: ControllerContext, row: VersionRow, *, token: str) -> StreamingResponse:
    """`event: progress` now and at each change, `event: end` with the whole version once settled.

    Settled: in service or out of it, refused, or passed and waiting for `promote`. The stream
    closes without `end` when the token may no longer read the version, or the version is gone.
    """
    return StreamingResponse(
        _events(context, row, token),
        media_type=MEDIA_TYPE,
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(context: ControllerContext, row: VersionRow, token: str) -> AsyncIterator[bytes]:
    shown: dict[str, Any] | None = None
    checked_at = context.clock()
    while not context.notifier.is_closed:
        if (now := _progress(row)) != shown:
            shown = now
            yield _event("progress", json.dumps(now))
        if _is_settled(row):
            whole = VersionOut.of(row, await context.repository.fleet.engines())
            yield _event("end", whole.model_dump_json())
            return
        await context.notifier.wait_change(_LOOK_SECONDS)
        if context.clock() - checked_at >= _HEARTBEAT_SECONDS:
            checked_at = context.clock()
            if not await _may_still_read(context, token, row.tenant_id):
                return
            yield b": still here\n\n"
        try:
            row = await context.repository.versions.find(row.id)
        except NotFound:
            return


def _progress(row: VersionRow) -> dict[str, Any]:
    at = row.progress or {}
    names = ("stage", "done", "total", "stages", "index", "reasons")
    return {
        "name": row.id,
        "state": row.state,
        "attempt": row.attempt,
        "error": row.error,
        **{name: at.get(name) for name in names},
    }


def _is_settled(row: VersionRow) -> bool:
    state = State(row.state)
    return state in _SETTLED or (state is State.PASSED and row.promote_mode == "manual")


async def _may_still_read(context: ControllerContext, token: str, tenant_id: str) -> bool:
    try:
        may(await identify(context, token), tenant_id, Scope.READ)
    except (Unauthenticated, Forbidden, NotFound):
        return False
    return True


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()
