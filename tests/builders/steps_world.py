"""A controller's world for tests of its steps: real registry, real store, and a clock to turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from prometheus_client import CollectorRegistry

from adapters.base_model import BaseModelCard
from adapters.manifest import manifest_of_folder
from adapters.parity.reference_client import ReferenceClient
from adapters.store import ArtifactStore
from serving.contract import (
    EngineReport,
    FleetSnapshot,
    VersionReport,
    VersionState,
    gate_key,
    hash_key,
)
from serving.controller.context import ControllerContext, database_url, store_url
from serving.controller.judges_file import load_judges
from serving.controller.loop import LANES, ControllerLoop
from serving.controller.metrics import ControllerMetrics
from serving.controller.notifier import Notifier
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import VersionRow
from serving.controller.registry.versions import Upload
from serving.controller.snapshot import compile_snapshot
from serving.settings import ControllerSettings
from tests.builders.registry import Clock

SECRET = "cluster-secret-of-the-tests"
LEASE_SECONDS = 30.0


@dataclass
class StepsWorld:
    """Everything around the steps; `turn` runs one due version's step of a lane."""

    context: ControllerContext
    clock: Clock
    reference: Any
    loop: ControllerLoop = field(init=False)
    metrics: CollectorRegistry = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    @property
    def repository(self) -> Repository:
        return self.context.repository

    def restart(self) -> None:
        """A new controller process over the same registry and store."""
        # A process has its own metrics; registering a second set in one registry is refused.
        context = replace(self.context, metrics=ControllerMetrics())
        self.metrics = context.metrics.registry
        self.loop = ControllerLoop(
            context, reference=cast("ReferenceClient", self.reference), lease_seconds=LEASE_SECONDS
        )

    def change_settings(self, **chosen: Any) -> None:
        """A new controller process with other settings."""
        self.context = replace(self.context, settings=replace(self.context.settings, **chosen))
        self.restart()

    async def turn(self, lane: str) -> bool:
        return await self.loop.turn(next(item for item in LANES if item.name == lane))

    async def upload(
        self,
        folder: Path,
        *,
        adapter: str = "support",
        mode: str = "auto",
        suite: str | None = None,
    ) -> str:
        """Put a folder into the store and acknowledge it as tenant acme's; the version's id."""
        manifest = manifest_of_folder(folder)
        await self.context.store.put(manifest, folder)
        upload = Upload(
            tenant_id="acme",
            adapter=adapter,
            digest=manifest.digest,
            files=manifest.to_json()["files"],
            created_by="ann",
            promote_mode=mode,
            suite_id=suite,
        )
        row, _ = await self.repository.versions.acknowledge(upload)
        return row.id

    async def row(self, version: str) -> VersionRow:
        return await self.repository.versions.find(version)

    async def snapshot(self) -> FleetSnapshot:
        return compile_snapshot(
            await self.repository.fleet.snapshot_rows(),
            fleet=self.context.settings.fleet,
            store_url=store_url(self.context.settings),
            gate_key_hash=hash_key(gate_key(SECRET), cluster_secret=SECRET),
        )

    async def alias(self, adapter: str = "support") -> int | None:
        snapshot = await self.snapshot()
        return next((item.number for item in snapshot.aliases if item.adapter == adapter), None)

    async def engine_says(
        self,
        engine: str,
        *versions: VersionReport,
        is_ready: bool = True,
        revision: int | None = None,
    ) -> None:
        """Record a report; by default of an engine that follows the present revision."""
        if revision is None:
            revision = await self.repository.fleet.revision()
        await self.repository.fleet.record_report(
            EngineReport(
                engine_id=engine,
                url="http://nowhere.invalid",
                build="b1",
                dtype="float32",
                revision=revision,
                is_ready=is_ready,
                started_at=1.0,
                gpu_slots=8,
                cpu_slots=64,
                max_rank=16,
                max_model_len=2048,
                versions=list(versions),
            )
        )

    async def said(
        self, version: str, state: VersionState, *, reason: str | None = None
    ) -> VersionReport:
        """What an engine reports of a version's present attempt."""
        row = await self.row(version)
        return VersionReport(
            name=row.id, digest=row.digest, state=state, reason=reason, attempt=row.attempt
        )


class DirectLink:
    """An engine's link to the controller without HTTP."""

    def __init__(self, world: StepsWorld) -> None:
        self._world = world
        self.is_cut = False

    async def pull(self, *, engine_id: str, after: int, wait: float) -> FleetSnapshot | None:
        snapshot = await self._world.snapshot()
        return snapshot if snapshot.revision > after else None

    async def report(self, report: EngineReport) -> None:
        if not self.is_cut:
            await self._world.repository.fleet.record_report(report)


@asynccontextmanager
async def steps_world(
    folder: Path, card: BaseModelCard | None, *, reference: Any = None, **chosen: Any
) -> AsyncIterator[StepsWorld]:
    """A new controller's world in `folder`, with tenant acme; settings by name."""
    settings = ControllerSettings(
        **{"data_dir": folder, "model": "the-base", "dtype": "float32", **chosen}
    )
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    clock = Clock()
    repository = Repository(database_url(settings), clock=clock)
    await repository.prepare()
    await repository.tenants.create("acme", display_name="Acme", actor="admin")
    context = ControllerContext(
        settings=settings,
        repository=repository,
        store=ArtifactStore.from_url(store_url(settings)),
        card=card,
        cluster_secret=SECRET,
        admin_token="admin",
        notifier=Notifier(repository.fleet.revision),
        metrics=ControllerMetrics(),
        clock=clock,
        judges=load_judges(settings.judges),
    )
    try:
        yield StepsWorld(context, clock, reference)
    finally:
        await repository.close()
