"""The engine's two calls to its controller: pull the snapshot, send the report."""

from __future__ import annotations

import asyncio
from typing import Protocol

import httpx
import msgspec

from serving.abridged_report import abridge
from serving.contract import (
    EngineReport,
    FleetSnapshot,
    decode_snapshot,
    encode,
    engine_token,
)
from serving.settings import EngineSettings
from serving.snapshot_delta import (
    MEDIA_TYPE,
    TAG_HEADER,
    DeltaMismatch,
    HeldSnapshot,
    apply,
    decode_delta,
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
        self._held: HeldSnapshot | None = None
        """What was pulled last, as the controller knows it; None: nothing, or an old controller."""

    async def pull(self, *, after: int, wait_seconds: float) -> FleetSnapshot | None:
        """See `Link.pull`. What is held already is not sent again, where the controller can."""
        held = self._held if self._held and self._held.snapshot.revision == after else None
        try:
            response = await self._ask(after, wait_seconds, base="" if held is None else held.tag)
            if response is None:
                return None
            self._held = await asyncio.to_thread(_read, response, held)
        except (DeltaMismatch, msgspec.DecodeError) as exc:
            # The next question is for all of it.
            self._held = None
            raise ControllerUnreachable(f"{type(exc).__name__}: {exc}") from exc
        except httpx.HTTPError as exc:
            raise ControllerUnreachable(f"{type(exc).__name__}: {exc}") from exc
        return self._held.snapshot

    async def _ask(self, after: int, wait_seconds: float, *, base: str) -> httpx.Response | None:
        asked: dict[str, str | int | float]
        asked = {"after": after, "wait": wait_seconds, "engine": self._engine_id}
        response = await self._client.get(
            "snapshot",
            params={**asked, "base": base} if base else asked,
            timeout=httpx.Timeout(_ANSWER_SECONDS, read=wait_seconds + _ANSWER_SECONDS),
        )
        if response.status_code == httpx.codes.NOT_MODIFIED:
            return None
        return response.raise_for_status()

    async def report(self, report: EngineReport) -> None:
        """See `Link.report`. What goes as the snapshot wants it is left out, where that is known.

        A controller that does not know the snapshot, having been started meanwhile, gets it all,
        and so does an old one, which does not know such reports.
        """
        held = self._held
        short = report if held is None or not held.tag else abridge(report, held)
        try:
            response = await self._send(short)
            if response.is_client_error and short is not report:
                response = await self._send(report)
            response.raise_for_status()
        except httpx.HTTPError as exc:
            raise ControllerUnreachable(f"{type(exc).__name__}: {exc}") from exc

    async def _send(self, report: EngineReport) -> httpx.Response:
        return await self._client.post(
            f"engines/{self._engine_id}/report",
            content=encode(report),
            headers={"content-type": "application/json"},
        )

    async def close(self) -> None:
        """End connections."""
        await self._client.aclose()


def link_of(settings: EngineSettings) -> Link | None:
    """To the controller of the settings; None where they name none, or no secret to ask with."""
    if not (settings.controller_url and settings.cluster_secret):
        return None
    return HttpLink(
        settings.controller_url,
        cluster_secret=settings.cluster_secret,
        engine_id=settings.engine_id,
    )


def _read(response: httpx.Response, before: HeldSnapshot | None) -> HeldSnapshot:
    """The snapshot of an answer; its tag is empty where controller and engine don't agree on it.

    They don't where one of them knows a field that the other one does not.
    """
    if response.headers.get("content-type", "").startswith(MEDIA_TYPE):
        if before is None:
            raise DeltaMismatch("a delta that nobody asked for")
        return apply(before, decode_delta(response.content))
    snapshot, tag = decode_snapshot(response.content), response.headers.get(TAG_HEADER)
    held = HeldSnapshot.of(snapshot) if tag else None
    return held if held and held.tag == tag else HeldSnapshot(snapshot, "", {}, {})
