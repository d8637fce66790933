"""What runs while a controller leads, and that it runs at no other time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from adapters.parity.reference_client import ReferenceClient
from serving.controller import leading as leading_module
from serving.controller.context import ControllerContext
from serving.controller.errors import Deposed
from serving.controller.leading import Bell, Leading
from serving.controller.surroundings import Companion, Leadership, Surroundings, Work
from tests.builders.base_folders import TINY, card_of
from tests.builders.registry import an_upload
from tests.builders.steps_world import StepsWorld, steps_world

DEADLINE_SECONDS = 30.0


@dataclass
class Turns:
    """A leadership that a test decides."""

    is_leading: bool = False
    begin: asyncio.Queue[int | None] = field(default_factory=asyncio.Queue)
    end: asyncio.Event = field(default_factory=asyncio.Event)
    n_ended: int = 0

    async def lead(self, work: Work) -> None:
        while True:
            term = await self.begin.get()
            self.end.clear()
            working = asyncio.ensure_future(work(term))
            ending = asyncio.create_task(self.end.wait())
            await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
            working.cancel()
            ending.cancel()
            await asyncio.gather(working, ending, return_exceptions=True)
            self.n_ended += 1


@dataclass
class Reference:
    n_closed: int = 0

    async def close(self) -> None:
        self.n_closed += 1


@dataclass
class World:
    """A controller that leads when the test says so."""

    steps: StepsWorld
    turns: Turns
    bell: Bell = field(default_factory=Bell)
    made: list[Reference] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def start(self, *companions: Companion) -> None:
        surroundings = Surroundings(
            leadership=cast("Leadership", self.turns),
            reference=self._make,
            companions=companions,
        )
        leading = Leading(self.steps.context, surroundings, self.bell)
        self.task = asyncio.create_task(leading.run())

    def _make(self, context: ControllerContext) -> ReferenceClient:
        self.made.append(Reference())
        return cast("ReferenceClient", self.made[-1])

    def metric(self, name: str, **labels: str) -> float | None:
        return self.steps.context.metrics.registry.get_sample_value(name, labels)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with steps_world(tmp_path, card_of(TINY), reference=Reference()) as steps:
        made = World(steps, Turns())
        yield made
        if made.task is not None:
            made.task.cancel()
            await asyncio.gather(made.task, return_exceptions=True)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - polls what no event tells
            await asyncio.sleep(0.01)


def waiting(name: str, began: list[ControllerContext]) -> Companion:
    async def run(context: ControllerContext) -> None:
        began.append(context)
        await asyncio.Event().wait()

    return Companion(name, run)


def failing(error: Exception, began: list[int]) -> Companion:
    async def run(context: ControllerContext) -> None:
        began.append(1)
        raise error

    return Companion("failing", run)


async def test_nothing_runs_before_it_leads(world: World) -> None:
    began: list[ControllerContext] = []
    world.start(waiting("pods", began))

    await asyncio.sleep(0.05)

    assert (began, world.made) == ([], [])
    assert world.metric("loraplane_leader") == 0.0
    assert world.metric("loraplane_leader_transitions_total") == 0.0
    assert world.metric("loraplane_background_failures_total", task="pods") == 0.0


async def test_each_lead_has_companions_and_a_reference_of_its_own(world: World) -> None:
    began: list[ControllerContext] = []
    world.start(waiting("pods", began))

    for number in (1, 2):
        world.turns.begin.put_nowait(number)
        await until(lambda expected=number: len(began) == expected)
        assert world.metric("loraplane_leader") == 1.0
        world.turns.end.set()
        await until(lambda expected=number: world.turns.n_ended == expected)

    assert world.metric("loraplane_leader") == 0.0
    assert world.metric("loraplane_leader_transitions_total") == 2.0
    assert [reference.n_closed for reference in world.made] == [1, 1]


async def test_what_a_companion_writes_ends_with_its_term(world: World) -> None:
    began: list[ControllerContext] = []
    world.start(waiting("pods", began))
    world.turns.begin.put_nowait(1)
    await until(lambda: len(began) == 1)
    await began[0].repository.versions.acknowledge(an_upload("one"))

    await world.steps.repository.leadership.take(2)

    with pytest.raises(Deposed):
        await began[0].repository.versions.acknowledge(an_upload("two"))


async def test_a_loop_that_finds_a_later_term_stops_by_itself(world: World) -> None:
    began: list[ControllerContext] = []
    world.start(waiting("pods", began))
    world.turns.begin.put_nowait(1)
    await until(lambda: len(began) == 1)

    await world.steps.repository.leadership.take(2)
    await world.steps.repository.versions.acknowledge(an_upload("one"))
    world.bell()

    await until(lambda: world.turns.n_ended == 1)
    assert world.metric("loraplane_leader") == 0.0
    assert world.task is not None
    assert not world.task.done()


async def test_a_term_that_is_over_before_it_begins_is_no_lead(world: World) -> None:
    began: list[ControllerContext] = []
    await world.steps.repository.leadership.take(5)
    world.start(waiting("pods", began))

    world.turns.begin.put_nowait(5)
    await until(lambda: world.turns.n_ended == 1)

    assert began == []
    assert world.metric("loraplane_leader_transitions_total") == 0.0


async def test_a_companion_that_fails_is_counted_and_begun_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leading_module, "_PAUSE_SECONDS", 0.001)
    tries: list[int] = []
    others: list[ControllerContext] = []
    world.start(failing(KeyError("a bug"), tries), waiting("pods", others))
    world.turns.begin.put_nowait(1)

    await until(lambda: len(tries) >= 3)

    count = world.metric("loraplane_background_failures_total", task="failing")
    assert count is not None
    assert count >= 2
    assert len(others) == 1
    assert world.turns.n_ended == 0


async def test_a_companion_that_is_deposed_ends_the_lead(world: World) -> None:
    tries: list[int] = []
    world.start(failing(Deposed(term=1, present=2), tries))
    world.turns.begin.put_nowait(1)

    await until(lambda: world.turns.n_ended == 1)

    assert len(tries) == 1
    assert world.metric("loraplane_background_failures_total", task="failing") == 0.0
