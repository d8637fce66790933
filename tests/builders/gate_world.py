"""The steps' world with an engine that answers: tiny model, fake engine, in-process reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adapters.base_model import read_base_model
from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.registry.tables import SuiteRow
from tests.builders.steps_world import SECRET, DirectLink, StepsWorld, steps_world
from tests.fakes.engine import FakeEngine
from tests.fakes.reference import FakeReference
from tests.fakes.served import served
from tests.fakes.tiny_model import TinyModel

SUITE = "\n".join(
    f'{{"id": "c{index}", "prompt": "{text}", "max_tokens": 8}}'
    for index, text in enumerate(
        ["The weather in Lima", "One two three", "Dear customer", "def f("]
    )
)
FINAL = frozenset(
    {State.LIVE, State.FAILED, State.INCONCLUSIVE, State.REJECTED, State.PASSED, State.RETIRED}
)


@cache
def tiny_model() -> TinyModel:
    """Loaded once a session; adapters stay apart by their keys."""
    return TinyModel(tiny_base())


@dataclass
class GateWorld:
    """`steps` with an engine that runs; `drive` turns lanes until a version has come to rest."""

    steps: StepsWorld
    engine: FakeEngine
    link: DirectLink
    reference: Any

    async def push(self, folder: Path, **options: Any) -> str:
        return await self.steps.upload(folder, suite="acme/probe@1", **options)

    async def drive(self, version: str, *, until: frozenset[State] = FINAL) -> State:
        async with asyncio.timeout(300):
            while True:
                for lane in ("validate", "evaluate", "stage"):
                    await self.steps.turn(lane)
                state = State((await self.steps.row(version)).state)
                if state in until:
                    return state
                self.steps.clock.advance(1)
                await asyncio.sleep(0.03)

    async def report(self, version: str) -> dict[str, Any]:
        stored = await self.steps.repository.versions.report(version)
        assert stored is not None
        return stored.report

    async def reasons(self, version: str) -> list[str]:
        return [reason["code"] for reason in (await self.report(version))["reasons"]]


@asynccontextmanager
async def another_engine(
    world: GateWorld, engine_id: str, **differs: Any
) -> AsyncIterator[FakeEngine]:
    """One more engine of the same fleet, which differs in these attributes."""
    engine = FakeEngine(
        model=tiny_model(), link=world.link, cluster_secret=SECRET, engine_id=engine_id
    )
    for name, value in differs.items():
        setattr(engine, name, value)
    async with served(engine.app) as url:
        engine.url = url
        running = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def gate_world(
    folder: Path, *, reference: Any = None, **chosen: Any
) -> AsyncIterator[GateWorld]:
    """An engine that is ready, a suite `acme/probe@1` of four cases, two repeats."""
    base = tiny_base()
    reference = reference or FakeReference(tiny_model(), base)
    settings = {"gate_min_cases": 4, "gate_repeats": 2, "model": str(base), **chosen}
    card = read_base_model(base)
    async with steps_world(folder, card, reference=reference, **settings) as steps:
        suite = SuiteRow(
            tenant_id="acme", name="probe", digest="d", n_cases=4, content=SUITE, contamination=None
        )
        await steps.repository.tenants.put_suite(suite, actor="ann")
        link = DirectLink(steps)
        engine = FakeEngine(model=tiny_model(), link=link, cluster_secret=SECRET)
        async with served(engine.app) as url:
            engine.url = url
            running = asyncio.create_task(engine.run())
            try:
                yield GateWorld(steps, engine, link, reference)
            finally:
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
