"""Our own routes on the engine, beside OpenAI's: /ready, the access trace, the drain.

All but /ready answer the bearer of the engine token alone: the controller, and who runs on the
engine's own machine with its secret (`loraplane drain`).
"""

from __future__ import annotations

import math
from http import HTTPStatus
from urllib.parse import parse_qsl

import msgspec

from serving.engine.asgi import Receive, Scope, Send, read_body, refuse, send_json
from serving.engine.scope import Door, RequestRefused

TRACE_PATH = "/loraplane/v1/trace"
"""The controller's alone: it names every tenant's adapters."""
DRAIN_PATH = "/loraplane/v1/drain"
_DEFAULT_PAGE = 1000
_MOST_DIGITS = 18
"""Of a position; more would not fit into 64 bits."""
_MAX_LEAVE_SECONDS = 3600.0
_BAD_PAGE = RequestRefused(
    HTTPStatus.BAD_REQUEST, "invalid_page", "`after` and `limit` are whole numbers from 0 on."
)
_NO_TRACE = RequestRefused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "no_trace",
    "This engine keeps no access trace.",
    kind="server_error",
)
_BAD_DRAIN = RequestRefused(
    HTTPStatus.BAD_REQUEST,
    "invalid_drain",
    'The body is empty or {"leave_seconds": SECONDS}, of 0 to 3600 seconds.',
)


class _DrainOrder(msgspec.Struct, forbid_unknown_fields=True):
    leave_seconds: float | None = None


async def answer_ready(door: Door | None, send: Send) -> None:
    """200 when tenants may come, else 503 with what is waited for."""
    waiting = "the engine starts" if door is None else door.readiness()
    if waiting is None:
        await send_json(send, 200, {"status": "ready"})
    else:
        await send_json(send, 503, {"status": "not ready", "waiting_for": waiting})


async def answer_trace(door: Door, scope: Scope, send: Send) -> None:
    """One page of the access trace."""
    asked = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
    after, limit = asked.get("after", "0"), asked.get("limit", str(_DEFAULT_PAGE))
    if not (_is_count(after) and _is_count(limit)):
        await refuse(send, _BAD_PAGE)
        return
    page = await door.trace_page(int(after), int(limit))
    if page is None:
        await refuse(send, _NO_TRACE)
        return
    await send_json(send, 200, page)


async def answer_drain(
    door: Door, scope: Scope, receive: Receive, send: Send, *, n_in_flight: int
) -> None:
    """GET tells how far the engine is on its way out, POST sends it on the way; both the same."""
    if scope["method"] == "POST":
        try:
            door.leave(_read_leave_seconds(await read_body(receive)))
        except RequestRefused as exc:
            await refuse(send, exc)
            return
    departure = door.departure
    body = {
        "state": departure.stage.value,
        "in_flight": n_in_flight,
        "admits_for_seconds": departure.admits_for_seconds,
    }
    await send_json(send, 200, body)


def _read_leave_seconds(body: bytes) -> float | None:
    try:
        order = msgspec.json.decode(body, type=_DrainOrder) if body.strip() else _DrainOrder()
    except msgspec.DecodeError as exc:
        raise _BAD_DRAIN from exc
    seconds = order.leave_seconds
    if seconds is not None and not (
        math.isfinite(seconds) and 0.0 <= seconds <= _MAX_LEAVE_SECONDS
    ):
        raise _BAD_DRAIN
    return seconds


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) <= _MOST_DIGITS
