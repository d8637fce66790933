"""Routes whose JSON body is small: the bytes are counted while they arrive."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Message

from adapters.errors import ArtifactTooLarge

MAX_JSON_BYTES = 256 * 1024
"""Far above any documented body; arbitrary."""


class BoundedRoute(APIRoute):
    """Refuses a body over `MAX_JSON_BYTES` before it is in memory."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, over a counted body."""
        handle = super().get_route_handler()

        async def handle_bounded(request: Request) -> Response:
            body, receive = _CountedBody(), request.receive

            async def receive_counted() -> Message:
                return body.count(await receive())

            try:
                return await handle(Request(request.scope, receive_counted))
            except Exception:
                # FastAPI answers 400 to whatever goes wrong while it reads a body.
                if body.is_over:
                    raise ArtifactTooLarge(what="request body", limit=MAX_JSON_BYTES) from None
                raise

        return handle_bounded


class _CountedBody:
    def __init__(self) -> None:
        self._n_bytes, self.is_over = 0, False

    def count(self, message: Message) -> Message:
        self._n_bytes += len(message.get("body", b""))
        if self._n_bytes > MAX_JSON_BYTES:
            self.is_over = True
            raise ArtifactTooLarge(what="request body", limit=MAX_JSON_BYTES)
        return message
