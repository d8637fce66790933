"""The few words of ASGI that our own routes speak: send JSON, refuse, read a small body."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

import msgspec

from serving.engine.scope import RequestRefused

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Headers = list[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 4096
"""Of a request on our own routes; they take a few numbers."""
_TOO_LARGE = RequestRefused(
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", "The body is larger than 4096 bytes."
)


async def send_json(
    send: Send, status: int, body: object, extra: list[tuple[bytes, bytes]] | None = None
) -> None:
    """A whole response."""
    data = msgspec.json.encode(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    start = {"type": "http.response.start", "status": status, "headers": headers + (extra or [])}
    await send(start)
    await send({"type": "http.response.body", "body": data})


async def refuse(send: Send, refused: RequestRefused) -> None:
    """A refusal in OpenAI's error shape."""
    error = {
        "message": refused.message,
        "type": refused.kind,
        "param": refused.param,
        "code": refused.code,
    }
    extra: list[tuple[bytes, bytes]] = []
    if refused.retry_after_seconds is not None:
        extra.append((b"retry-after", str(refused.retry_after_seconds).encode()))
    if refused.status == HTTPStatus.UNAUTHORIZED:
        extra.append((b"www-authenticate", b"Bearer"))
    await send_json(send, int(refused.status), {"error": error}, extra)


async def read_body(receive: Receive) -> bytes:
    """The request's body.

    Raises:
        RequestRefused: it is larger than `MAX_BODY_BYTES`.
    """
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _TOO_LARGE
        if not message.get("more_body", False):
            return bytes(body)
