"""Where the engine room begins and ends: no secret, no runtime; once it drains, nothing new."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from serving.contract import FleetSnapshot
from serving.engine.credentials import SecretMissing
from serving.engine.runtime import EngineRuntime
from serving.settings import EngineSettings
from tests.builders.snapshots import snapshot, version
from tests.fakes.engine_world import FakeLink, World


async def test_without_the_cluster_secret_no_runtime_is_made(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.start()
    with pytest.raises(SecretMissing):
        EngineRuntime(EngineSettings(), world.port, registry=CollectorRegistry())


async def test_a_draining_engine_takes_over_nothing_new(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.run()
    world.runtime.drain()
    one = version("acme/support@1", digest=await world.put("one"))

    await world.runtime.agent.accept(snapshot(one, store_url=world.store_url))
    await world.until(lambda: (r := world.link.last_report) and not r.is_ready)

    assert world.runtime.readiness() == "the engine is stopping"
    assert not world.port.cached
    await world.runtime.stop()


class Counting(FakeLink):
    n_pulls = 0

    async def pull(self, *, after: int, wait_seconds: float) -> FleetSnapshot | None:
        self.n_pulls += 1
        await asyncio.sleep(0)
        return await super().pull(after=after, wait_seconds=wait_seconds)


async def test_the_controller_of_another_fleet_is_not_asked_without_a_pause(tmp_path: Path) -> None:
    link = Counting()
    world = World(tmp_path, link=link)
    link.publish(snapshot(fleet="elsewhere", revision=9))

    await world.run()
    await world.until(lambda: link.n_pulls > 0)
    await asyncio.sleep(0.1)

    await world.runtime.stop()
    assert link.n_pulls <= 2
