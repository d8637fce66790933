"""The controller as an engine sees it: two internal routes over a desired state that a test writes.

Used by the engine contract alone; the controller's own tests use the real controller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from fastapi import FastAPI, Request, Response

from serving.contract import (
    EngineReport,
    FleetSnapshot,
    VersionReport,
    VersionState,
    decode_report,
    encode,
    engine_token,
)


class DesiredState:
    """What a test wants, and what engines said; in-process `Link` and HTTP app in one."""

    def __init__(self, first: FleetSnapshot, *, cluster_secret: str) -> None:
        self.snapshot = first
        self.reports: dict[str, EngineReport] = {}
        self._token = engine_token(cluster_secret)
        self._changed = asyncio.Condition()
        self.app = self._build_app()

    async def publish(self, **changes: object) -> int:
        """Replace fields of the snapshot; returns the new revision."""
        async with self._changed:
            revision = self.snapshot.revision + 1
            self.snapshot = msgspec.structs.replace(self.snapshot, revision=revision, **changes)
            self._changed.notify_all()
        return revision

    async def pull(self, *, engine_id: str, after: int, wait: float) -> FleetSnapshot | None:
        async with self._changed:
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait_for(lambda: self.snapshot.revision > after)
            except TimeoutError:
                return None
            return self.snapshot

    async def report(self, report: EngineReport) -> None:
        async with self._changed:
            self.reports[report.engine_id] = report
            self._changed.notify_all()

    async def wait_until(
        self, holds: Callable[[EngineReport], bool], *, timeout_seconds: float = 60.0
    ) -> EngineReport:
        """The first report of any engine for which `holds`."""
        async with asyncio.timeout(timeout_seconds), self._changed:
            while True:
                for report in self.reports.values():
                    if holds(report):
                        return report
                await self._changed.wait()

    async def settled(self, name: str, *, attempt: int = 0) -> VersionReport:
        """The report of a version, once it is proven or failed in that attempt."""
        final = {VersionState.PROVEN, VersionState.FAILED}

        def found(report: EngineReport) -> list[VersionReport]:
            return [
                item
                for item in report.versions
                if item.name == name and item.state in final and item.attempt >= attempt
            ]

        report = await self.wait_until(lambda report: bool(found(report)))
        return found(report)[0]

    def _build_app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/internal/v1/snapshot")
        async def snapshot(request: Request, after: int, wait: float, engine: str) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._token}":
                return Response(status_code=401)
            found = await self.pull(engine_id=engine, after=after, wait=wait)
            if found is None:
                return Response(status_code=304)
            return Response(encode(found), media_type="application/json")

        @app.post("/internal/v1/engines/{engine_id}/report")
        async def report(request: Request, engine_id: str) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._token}":
                return Response(status_code=401)
            await self.report(decode_report(await request.body()))
            return Response(status_code=204)

        return app
