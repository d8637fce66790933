"""The engine's two calls to its controller: pull the snapshot, send the report."""

from __future__ import annotations

from typing import Protocol

import httpx
import msgspec

from serving.contract import (
    EngineReport,
    FleetSnapshot,
    decode_snapshot,
    encode,
    engine_token,
)

_ANSWER_SECONDS = 10.0
"""How long an answer may take beyond the wait that was asked for; arbitrary."""


class ControllerUnreachable(Exception):
    """The controller gave no usable answer; says nothing about the desired state."""


class Link(Protocol):
    """How an agent meets its controller."""

    async def pull(self, *, after: int, wait_seconds: float) -> FleetSnapshot | None:
        """The snapshot when its revision is higher than `after`; else None, after the wait.

        Raises:
            ControllerUnreachable: no usable answer.
        """
        ...

    async def report(self, report: EngineReport) -> None:
        """Hand over an observation.

        Raises:
            ControllerUnreachable: not taken.
        """
        ...

    async def close(self) -> None:
        """End connections."""
        ...


class HttpLink:
    """`Link` over the controller's internal routes."""

    def __init__(
        self,
        url: str,
        *,
        cluster_secret: str,
        engine_id: str,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._engine_id = engine_id
        self._client = httpx.AsyncClient(
            base_url=url.rstrip("/") + "/internal/v1/",
            headers={"authorization": f"Bearer {engine_token(cluster_secret)}"},
            timeout=_ANSWER_SECONDS,
            transport=transport,
            trust_env=False,
        )

    async def pull(self, *, after: int, wait_seconds: float) -> FleetSnapshot | None:
        """See `Link.pull`."""
        try:
            response = await self._client.get(
                "snapshot",
                params={"after": after, "wait": wait_seconds, "engine": self._engine_id},
                timeout=httpx.Timeout(_ANSWER_SECONDS, read=wait_seconds + _ANSWER_SECONDS),
            )
            if response.status_code == httpx.codes.NOT_MODIFIED:
                return None
            response.raise_for_status()
            return decode_snapshot(response.content)
        except (httpx.HTTPError, msgspec.DecodeError) as exc:
            raise ControllerUnreachable(f"{type(exc).__name__}: {exc}") from exc

    async def report(self, report: EngineReport) -> None:
        """See `Link.report`."""
        try:
            response = await self._client.post(
                f"engines/{self._engine_id}/report",
                content=encode(report),
                headers={"content-type": "application/json"},
            )
            response.raise_for_status()
        except httpx.HTTPError as exc:
            raise ControllerUnreachable(f"{type(exc).__name__}: {exc}") from exc

    async def close(self) -> None:
        """End connections."""
        await self._client.aclose()
