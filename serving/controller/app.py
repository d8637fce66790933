"""Builds the controller: context, routes, and what runs beside them; without torch or vLLM."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib.metadata import version

import structlog
from fastapi import FastAPI

from adapters.base_folder import find_base_folder
from adapters.base_model import BaseModelCard, read_base_model
from adapters.store import ArtifactStore
from serving.controller import problems
from serving.controller.background import keep_turning
from serving.controller.capacity.board import CapacityBoard
from serving.controller.capacity.observer import CapacityObserver
from serving.controller.capacity.residency import RESIDENCY_SECONDS, ResidencyKeeper
from serving.controller.capacity.trace_client import TraceClient
from serving.controller.clearance import MODES
from serving.controller.contamination_check import ContaminationCheck
from serving.controller.context import ControllerContext, database_url, secrets_of, store_url
from serving.controller.judges_file import load_judges
from serving.controller.leading import Bell, Leading
from serving.controller.metrics import ControllerMetrics
from serving.controller.notifier import Notifier
from serving.controller.registry.repository import Repository
from serving.controller.routes import (
    adapters,
    capacity,
    dashboard,
    engine_trace,
    engines,
    events,
    fleet_health,
    internal,
    operations,
    policies,
    suites,
    tenants,
    versions,
)
from serving.controller.snapshot_keeper import SnapshotKeeper
from serving.controller.surroundings import OpenSurroundings, Surroundings, alone
from serving.controller.uploads import Uploads
from serving.settings import ControllerSettings, SettingInvalid

log = structlog.get_logger()

ROUTERS = (
    # First: nearly all requests are engines', and each request tries the routes in this order.
    internal.router,
    tenants.router,
    suites.router,
    policies.router,
    adapters.router,
    adapters.fleet_router,
    versions.uploads_router,
    versions.router,
    engines.router,
    fleet_health.router,
    capacity.router,
    engine_trace.router,
    events.router,
    operations.router,
    dashboard.router,
)


def build_context(
    settings: ControllerSettings, *, clock: Callable[[], float] = time.time, bell: Bell
) -> ControllerContext:
    """Open everything that one controller process shares; nothing is connected yet.

    Raises:
        BaseModelError: the model's folder cannot be read.
        StoreUnavailable: the store's URL cannot be opened.
        SettingInvalid: the file of judges cannot be read, or an unknown residency or upgrade mode.
    """
    if settings.residency_mode not in ("auto", "off"):
        raise SettingInvalid(
            name="LORAPLANE_RESIDENCY_MODE", value=settings.residency_mode, wanted="auto or off"
        )
    if settings.upgrade not in MODES:
        raise SettingInvalid(
            name="LORAPLANE_UPGRADE", value=settings.upgrade, wanted=" or ".join(MODES)
        )
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    cluster_secret, admin_token = secrets_of(settings)
    repository = Repository(database_url(settings), clock=clock)
    notifier = Notifier(repository.fleet.revision)
    repository.sessions.listen(notifier.publish)
    return ControllerContext(
        settings=settings,
        repository=repository,
        store=ArtifactStore.from_url(store_url(settings)),
        card=_read_card(settings),
        cluster_secret=cluster_secret,
        admin_token=admin_token,
        notifier=notifier,
        metrics=ControllerMetrics(),
        clock=clock,
        judges=load_judges(settings.judges),
        hint=bell,
    )


def create_app(
    settings: ControllerSettings,
    *,
    clock: Callable[[], float] = time.time,
    has_loop: bool = True,
    surroundings: OpenSurroundings = alone,
) -> FastAPI:
    """The controller as an ASGI app; `has_loop=False` answers requests but moves nothing on.

    With a loop, `surroundings` say when this process leads, and so when the loop runs.

    Raises:
        BaseModelError, StoreUnavailable, SettingInvalid: see `build_context`.
    """
    bell = Bell()
    context = build_context(settings, clock=clock, bell=bell)
    app = FastAPI(
        title="loraplane controller",
        version=version("loraplane"),
        # Their pages load scripts from a CDN.
        docs_url=None,
        redoc_url=None,
        lifespan=lambda app: _lifespan(
            app, context, _Loop(bell, surroundings) if has_loop else None
        ),
    )
    app.state.context = context
    app.state.snapshots = SnapshotKeeper()
    app.state.uploads = Uploads(
        context.uploads_dir,
        max_bytes=settings.max_upload_bytes,
        max_concurrent=settings.max_concurrent_uploads,
    )
    app.state.contamination = ContaminationCheck(
        timeout_seconds=settings.contamination_timeout_seconds
    )
    app.state.is_loop_running = lambda: not has_loop
    observer = CapacityObserver(
        context.repository.fleet,
        TraceClient(context.cluster_secret),
        clock=clock,
        engine_timeout_seconds=settings.engine_timeout_seconds,
    )
    app.state.capacity = CapacityBoard(context, observer)
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    return app


@dataclass(frozen=True, slots=True)
class _Loop:
    bell: Bell
    surroundings: OpenSurroundings


@contextlib.asynccontextmanager
async def _lifespan(
    app: FastAPI, context: ControllerContext, loop: _Loop | None
) -> AsyncIterator[None]:
    await context.repository.prepare()
    context.notifier.publish(await context.repository.fleet.revision())
    await asyncio.to_thread(app.state.uploads.open)
    tasks = [
        asyncio.create_task(context.notifier.run(), name="notifier"),
        asyncio.create_task(_follow_snapshots(app, context), name="snapshots"),
    ]
    around = contextlib.AsyncExitStack()
    try:
        if loop is not None:
            opened = await around.enter_async_context(loop.surroundings(context))
            tasks += _start_loop(app, context, loop.bell, opened)
            tasks += _start_capacity(context, app.state.capacity)
        yield
    finally:
        context.notifier.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await around.aclose()
        await app.state.capacity.observer.close()
        await asyncio.to_thread(app.state.uploads.close)
        await context.repository.close()


def _start_loop(
    app: FastAPI, context: ControllerContext, bell: Bell, surroundings: Surroundings
) -> list[asyncio.Task[None]]:
    leading = Leading(context, surroundings, bell)
    running = asyncio.create_task(leading.run(), name="loop")
    running.add_done_callback(_report_end)
    # One that stands by is as ready as the leader: it answers the API.
    app.state.is_loop_running = lambda: not running.done()
    return [running]


async def _follow_snapshots(app: FastAPI, context: ControllerContext) -> None:
    keeper: SnapshotKeeper = app.state.snapshots
    await keep_turning(
        "snapshots", lambda: keeper.follow(context), pause_seconds=1.0, metrics=context.metrics
    )


def _start_capacity(context: ControllerContext, board: CapacityBoard) -> list[asyncio.Task[None]]:
    keeper = ResidencyKeeper(context, board)
    pauses = (
        ("capacity", board.observer.turn, context.settings.capacity_poll_seconds),
        ("residency", keeper.turn, RESIDENCY_SECONDS),
    )
    return [
        asyncio.create_task(
            keep_turning(name, turn, pause_seconds=pause, metrics=context.metrics), name=name
        )
        for name, turn, pause in pauses
    ]


def _report_end(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("loop_ended", exc_info=error)


def _read_card(settings: ControllerSettings) -> BaseModelCard | None:
    if settings.model is None:
        return None
    return read_base_model(find_base_folder(settings.model))
