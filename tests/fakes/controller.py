"""The controller as an engine sees it: two internal routes over a desired state that a test writes.

Used by the engine contract alone; the controller's own tests use the real controller. It runs in a
thread of its own, so that one engine can serve many tests.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from serving.contract import (
    EngineReport,
    FleetSnapshot,
    VersionReport,
    VersionState,
    decode_report,
    encode,
    engine_token,
)

_SETTLED = frozenset({VersionState.PROVEN, VersionState.FAILED})


class DesiredState:
    """What a test wants, and what engines said. Thread-safe."""

    def __init__(self, first: FleetSnapshot, *, cluster_secret: str) -> None:
        self.snapshot = first
        self.reports: dict[str, EngineReport] = {}
        self._token = engine_token(cluster_secret)
        self._changed = threading.Condition()
        self._n_refusals = 0
        self.app = self._build_app()

    def publish(self, **changes: object) -> int:
        """Replace fields of the snapshot; returns the new revision."""
        with self._changed:
            revision = self.snapshot.revision + 1
            self.snapshot = msgspec.structs.replace(self.snapshot, revision=revision, **changes)
            self._changed.notify_all()
        return revision

    def refuse_reports(self, n: int) -> None:
        """Answer the next `n` reports as a controller whose registry is away: 503."""
        with self._changed:
            self._n_refusals = n

    def wait_refused(self, *, timeout_seconds: float = 60.0) -> None:
        """Wait until all of them were asked for."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._n_refusals == 0, timeout_seconds)

    def wait_until(
        self, holds: Callable[[EngineReport], bool], *, timeout_seconds: float = 60.0
    ) -> EngineReport:
        """The first report of any engine for which `holds`."""

        def found() -> EngineReport | None:
            return next((item for item in self.reports.values() if holds(item)), None)

        with self._changed:
            report = self._changed.wait_for(found, timeout_seconds)
        assert report is not None, f"not within {timeout_seconds} s; last: {self.reports}"
        return report

    def settled(self, name: str, *, attempt: int = 0) -> VersionReport:
        """What an engine that follows the snapshot says of a version, once proven or failed."""
        wanted = self.snapshot.revision

        def of(report: EngineReport) -> VersionReport | None:
            if report.revision < wanted:
                return None
            return next(
                (
                    item
                    for item in report.versions
                    if item.name == name and item.state in _SETTLED and item.attempt >= attempt
                ),
                None,
            )

        found = of(self.wait_until(lambda report: of(report) is not None))
        assert found is not None
        return found

    def _pull(self, after: int, wait: float) -> FleetSnapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: self.snapshot.revision > after, wait)
            return self.snapshot if self.snapshot.revision > after else None

    def _record(self, report: EngineReport) -> bool:
        with self._changed:
            is_refused = self._n_refusals > 0
            if is_refused:
                self._n_refusals -= 1
            else:
                self.reports[report.engine_id] = report
            self._changed.notify_all()
            return not is_refused

    def _build_app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/internal/v1/snapshot")
        def snapshot(request: Request, after: int, wait: float, engine: str) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._token}":
                return Response(status_code=401)
            found = self._pull(after, min(wait, 1.0))
            if found is None:
                return Response(status_code=304)
            return Response(encode(found), media_type="application/json")

        @app.post("/internal/v1/engines/{engine_id}/report")
        async def report(request: Request, engine_id: str) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._token}":
                return Response(status_code=401)
            data = decode_report(await request.body())
            is_taken = await run_in_threadpool(self._record, data)
            return Response(status_code=204 if is_taken else 503)

        return app
