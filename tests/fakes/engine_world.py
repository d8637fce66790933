"""An engine room in a box: real runtime, agent, leases and local artifacts on a fake engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from adapters.manifest import manifest_of_folder
from adapters.store import ArtifactStore
from serving.contract import EngineReport, FleetSnapshot, VersionReport
from serving.engine.link import ControllerUnreachable
from serving.engine.runtime import EngineRuntime
from serving.settings import EngineSettings
from tests.builders.snapshots import SECRET
from tests.fakes.engine_port import FakeEnginePort


class FakeLink:
    """A controller in the same process: holds one snapshot and the last report."""

    def __init__(self) -> None:
        self.snapshot: FleetSnapshot | None = None
        self.last_report: EngineReport | None = None
        self.is_down = False
        self._changed = asyncio.Event()

    def publish(self, snapshot: FleetSnapshot) -> None:
        self.snapshot = snapshot
        self._changed.set()

    async def pull(self, *, after: int, wait_seconds: float) -> FleetSnapshot | None:
        if not self._is_news(after) and wait_seconds:
            self._changed.clear()
            try:
                async with asyncio.timeout(min(wait_seconds, 0.2)):
                    await self._changed.wait()
            except TimeoutError:
                pass
        if self.is_down:
            raise ControllerUnreachable("a test wants it so")
        return self.snapshot if self._is_news(after) else None

    def _is_news(self, after: int) -> bool:
        return self.snapshot is not None and self.snapshot.revision > after

    async def report(self, report: EngineReport) -> None:
        if self.is_down:
            raise ControllerUnreachable("a test wants it so")
        self.last_report = report

    async def close(self) -> None:
        self._changed.set()


@dataclass
class World:
    folder: Path
    cpu_slots: int = 8
    load_wait_seconds: float = 2.0
    has_controller: bool = True
    metrics_token: str | None = None
    probe_interval_seconds: float = 0.0
    trace_events: int = 1000
    link: FakeLink = field(default_factory=FakeLink)
    port: FakeEnginePort = field(init=False)
    runtime: EngineRuntime = field(init=False)
    registry: CollectorRegistry = field(init=False)

    @property
    def store_url(self) -> str:
        return f"file://{self.folder / 'store'}"

    @property
    def artifacts(self) -> Path:
        return self.folder / "engine" / "artifacts"

    async def put(self, text: str) -> str:
        """Keep an artifact with these bytes in the store; its digest."""
        source = self.folder / "sources" / str(abs(hash(text)))
        source.mkdir(parents=True, exist_ok=True)
        (source / "adapter_config.json").write_text("{}")
        (source / "adapter_model.safetensors").write_text(text)
        store = ArtifactStore.from_url(self.store_url)
        return str(await store.put(manifest_of_folder(source), source))

    def start(self) -> None:
        """A new life of the engine; what is on disk stays."""
        self.port = FakeEnginePort(cpu_slots=self.cpu_slots)
        self.registry = CollectorRegistry()
        settings = EngineSettings(
            engine_dir=self.folder / "engine",
            cluster_secret=SECRET,
            controller_url=None,
            report_seconds=0.05,
            poll_seconds=0.2,
            load_wait_seconds=self.load_wait_seconds,
            metrics_token=self.metrics_token,
            probe_interval_seconds=self.probe_interval_seconds,
            trace_events=self.trace_events,
        )
        link = self.link if self.has_controller else None
        self.runtime = EngineRuntime(settings, self.port, registry=self.registry, link=link)

    async def run(self) -> None:
        self.start()
        await self.runtime.start()

    def seen(self, name: str) -> VersionReport | None:
        """How the controller last heard of a version."""
        report = self.link.last_report
        return next((v for v in report.versions if v.name == name), None) if report else None

    async def until(self, condition: Callable[[], object], *, seconds: float = 60.0) -> None:
        """Wait until something is so, or fail."""
        async with asyncio.timeout(seconds):
            while not condition():  # noqa: ASYNC110 - any condition; there is no event for it
                await asyncio.sleep(0.01)
