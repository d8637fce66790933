"""Engines that follow what a restored registry does not know: heard first, and then led on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from serving.contract import EngineReport, FleetSnapshot, decode_snapshot, encode
from serving.controller.lifecycle import State
from serving.engine.link import HttpLink, Link
from serving.engine.runtime import EngineRuntime
from serving.settings import EngineSettings
from tests.builders.controller import SECRET, Controller, a_controller, a_report
from tests.builders.registry import a_version, an_upload
from tests.builders.snapshots import snapshot, version
from tests.fakes.engine_port import FakeEnginePort
from tests.fakes.engine_world import FakeLink, World

PATH = "/internal/v1/snapshot"


@pytest.fixture
async def controller(tmp_path: Path) -> AsyncIterator[Controller]:
    async with a_controller(tmp_path / "controller") as made:
        await made.tenant("acme")
        await a_version(made.context.repository, an_upload("one"), until=State.LIVE)
        yield made


@dataclass
class Switched:
    """A link that can be put through to another controller."""

    to: Link

    async def pull(self, *, after: int, wait_seconds: float) -> FleetSnapshot | None:
        return await self.to.pull(after=after, wait_seconds=wait_seconds)

    async def report(self, report: EngineReport) -> None:
        await self.to.report(report)

    async def close(self) -> None:
        await self.to.close()


@dataclass
class Engine:
    """A real engine room that has followed a controller which is gone by now."""

    name: str
    runtime: EngineRuntime
    link: Switched

    def meet(self, controller: Controller) -> None:
        self.link.to = HttpLink(
            "http://controller",
            cluster_secret=SECRET,
            engine_id=self.name,
            transport=httpx.ASGITransport(controller.app),
        )


@asynccontextmanager
async def an_engine(controller: Controller, folder: Path, name: str) -> AsyncIterator[Engine]:
    """It follows revision 500, with acme/support@1 and, made after the backup, @7."""
    world, before = World(folder), FakeLink()
    one, seven = [
        version(f"acme/support@{number}", digest=await world.put(text))
        for number, text in ((1, "one"), (7, "seven"))
    ]
    fleet = controller.context.settings.fleet
    before.publish(
        snapshot(
            one, seven, revision=500, aliases=(seven.name,), fleet=fleet, store_url=world.store_url
        )
    )
    settings = EngineSettings(
        engine_id=name,
        fleet=fleet,
        engine_dir=folder / "engine",
        cluster_secret=SECRET,
        controller_url=None,
        trace_events=1000,
        report_seconds=0.5,
    )
    link = Switched(before)
    port = FakeEnginePort(cpu_slots=8)
    runtime = EngineRuntime(settings, port, registry=CollectorRegistry(), link=link)
    await runtime.start()
    try:
        await world.until(lambda: runtime.readiness() is None)
        before.is_down = True
        yield Engine(name, runtime, link)
    finally:
        await runtime.stop()


async def trail(controller: Controller, action: str) -> list[tuple[str, str]]:
    rows = await controller.context.repository.audit.latest(limit=100)
    return sorted((row.actor, row.subject) for row in rows if row.action == action)


@pytest.mark.parametrize("n_engines", [1, 3])
async def test_what_engines_hold_is_written_down_before_they_drop_it(
    controller: Controller, tmp_path: Path, n_engines: int
) -> None:
    repository = controller.context.repository
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(
                an_engine(controller, tmp_path / f"e{n}", f"engine-{n}")
            )
            for n in range(n_engines)
        ]

        for engine in engines:
            engine.meet(controller)

        async with asyncio.timeout(60):
            while any(e.runtime.agent.followed_revision <= 500 for e in engines):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    assert await trail(controller, "registry_restored") == [("controller", "fleet")]
    assert await trail(controller, "engine_holds_unknown") == [
        (f"engine:engine-{n}", "acme/support@7") for n in range(n_engines)
    ]
    pushed, _ = await repository.versions.acknowledge(an_upload("two"))
    assert pushed.id == "acme/support@8"


async def test_an_engine_that_is_ahead_gets_nothing_new_before_its_report_is_in(
    controller: Controller,
) -> None:
    engine = await controller.engine_client()
    asked: dict[str, Any] = {"after": 500, "engine": "engine-0"}
    assert (await engine.get(PATH, params={**asked, "wait": 0.3})).status_code == 304
    assert await trail(controller, "registry_restored") == []
    waiting = asyncio.create_task(engine.get(PATH, params={**asked, "wait": 15}, timeout=60))
    await asyncio.sleep(0)

    report = encode(a_report(revision=500))
    answer = await engine.post("/internal/v1/engines/engine-0/report", content=report)

    assert answer.status_code == 204
    given = decode_snapshot((await waiting).content)
    assert given.revision > 500
    assert (await engine.get(PATH, params={"after": given.revision})).status_code == 304


async def test_an_engine_whose_reports_do_not_come_through_follows_after_a_while(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.controller.routes.internal._PATIENCE_SECONDS", 0.5)
    engine = await controller.engine_client()

    answer = await engine.get(PATH, params={"after": 500, "engine": "engine-0", "wait": 0.6})

    assert decode_snapshot(answer.content).revision > 500


async def test_no_engine_freezes_the_fleet_with_a_number_that_nobody_gave_out(
    controller: Controller,
) -> None:
    engine = await controller.engine_client()
    present = await controller.context.repository.fleet.revision()
    for revision in (2**53, 2**45):
        report = encode(a_report(revision=revision))
        answer = await engine.post("/internal/v1/engines/engine-0/report", content=report)
        assert (answer.status_code, answer.json()["code"]) == (409, "limit_exceeded")
        asked: dict[str, Any] = {"after": revision, "engine": "engine-0"}
        assert (await engine.get(PATH, params=asked)).status_code == 304
        assert (await engine.get(PATH, params={"after": revision})).status_code == 409

    assert await controller.context.repository.fleet.revision() == present
    answer = await engine.get(PATH, params={"after": present - 1, "engine": "engine-0"})
    assert decode_snapshot(answer.content).revision == present
