"""Pages of an engine's access trace over HTTP, with the engines' own token."""

from __future__ import annotations

import asyncio
from typing import Self

import httpx
import msgspec

from serving.contract import TracePage, engine_token
from serving.controller.errors import TraceUnavailable

PAGE_EVENTS = 10_000
"""Events asked for at once: about 1 MB of JSON; arbitrary."""
PAGE_SECONDS = 10.0
"""How long one page may take."""
_TIMEOUT = httpx.Timeout(PAGE_SECONDS, connect=3.0)
_MAX_PAGE_BYTES = 16 * 1024**2


class TraceClient:
    """Asks any engine for its trace; close it after use."""

    def __init__(
        self, cluster_secret: str, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Nothing is connected yet."""
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {engine_token(cluster_secret)}"},
            timeout=_TIMEOUT,
            transport=transport,
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(self, *_exc: object) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def page(
        self, engine: str, url: str, *, after: int, limit: int = PAGE_EVENTS
    ) -> TracePage:
        """Events from position `after` on, at most `limit`.

        Raises:
            TraceUnavailable: no answer, another answer than a page, or the page of another engine.
        """
        target = f"{url.rstrip('/')}/loraplane/v1/trace"
        try:
            # httpx limits the wait for each piece alone: a trickle would never end.
            async with asyncio.timeout(PAGE_SECONDS):
                body = await self._read(engine, target, {"after": after, "limit": limit})
        except TimeoutError as exc:
            raise TraceUnavailable(engine=engine, reason="too slow") from exc
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            raise TraceUnavailable(engine=engine, reason=type(exc).__name__) from exc
        try:
            page = msgspec.json.decode(body, type=TracePage)
        except msgspec.DecodeError as exc:
            raise TraceUnavailable(engine=engine, reason="not a trace page") from exc
        # A ring that was made anew may end before `after`: the reader has to know.
        is_later = page.first >= after or page.end < after
        if page.engine_id != engine or not (is_later and page.first <= page.next <= page.end):
            raise TraceUnavailable(engine=engine, reason="a page of something else")
        return page

    async def _read(self, engine: str, target: str, params: dict[str, int]) -> bytes:
        body = bytearray()
        async with self._http.stream("GET", target, params=params) as response:
            if response.status_code != httpx.codes.OK:
                raise TraceUnavailable(engine=engine, reason=f"status {response.status_code}")
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MAX_PAGE_BYTES:
                    raise TraceUnavailable(engine=engine, reason="page too large")
        return bytes(body)
