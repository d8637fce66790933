"""The loop: finds what is due, survives a step that breaks, and keeps its lanes apart."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from adapters.parity.reference_client import ReferenceClient
from serving.controller.errors import RegistryUnavailable
from serving.controller.lifecycle import Event, State
from serving.controller.loop import ControllerLoop, Lane, backoff_seconds
from serving.controller.metrics import ControllerMetrics
from serving.controller.registry.moves import Move
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.outcome import Done, Outcome, Retry, Terminal
from tests.builders.base_folders import TINY, card_of
from tests.builders.controller import a_report
from tests.builders.registry import a_version, an_upload
from tests.builders.steps_world import StepsWorld, steps_world


class NoReference:
    is_closed = False

    async def close(self) -> None:
        self.is_closed = True


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StepsWorld]:
    async with steps_world(tmp_path, card_of(TINY), reference=NoReference()) as made:
        yield made


def loop_of(world: StepsWorld, *lanes: Lane, clock: Any = None) -> ControllerLoop:
    context = dataclasses.replace(world.context, metrics=ControllerMetrics())
    if clock is not None:
        context = dataclasses.replace(context, clock=clock)
        world.repository.sessions.clock = clock
    return ControllerLoop(context, reference=cast("ReferenceClient", world.reference), lanes=lanes)


def lane(step: Any, *, state: State = State.EVALUATING, width: int = 1) -> Lane:
    return Lane("evaluate", (state,), step, width)


async def evaluating(world: StepsWorld, content: str = "one") -> str:
    row = await a_version(world.repository, an_upload(content), until=State.EVALUATING)
    return row.id


async def test_nothing_due_is_no_work(world: StepsWorld) -> None:
    assert not await loop_of(world).turn(lane(None))


@pytest.mark.parametrize(
    ("outcome", "pause", "error"),
    [
        (Retry("not_yet", 7.0, {"why": 1}), 7.0, {"code": "not_yet", "why": 1}),
        (Retry("not_yet"), 1.0, {"code": "not_yet"}),
        (Terminal("lost"), 3600.0, {"code": "lost", "terminal": True}),
    ],
)
async def test_a_step_that_is_put_off_is_due_later_and_says_why(
    world: StepsWorld, outcome: Outcome, pause: float, error: dict[str, Any]
) -> None:
    version = await evaluating(world)

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        return outcome

    loop = loop_of(world)
    assert await loop.turn(lane(step))

    row = await world.row(version)
    assert row.next_attempt_at == world.clock.now + pause
    assert row.error == {"step": "evaluate", **error}
    assert (row.lock_token, row.attempts) == (None, 1)
    assert not await loop.turn(lane(step))
    world.clock.advance(pause)
    assert await loop.turn(lane(step))


async def test_a_step_that_breaks_is_counted_and_tried_again(world: StepsWorld) -> None:
    version = await evaluating(world)

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        raise KeyError("a bug")

    context = dataclasses.replace(world.context, metrics=ControllerMetrics())
    loop = ControllerLoop(context, reference=cast("ReferenceClient", world.reference))
    await loop.turn(lane(step))

    row = await world.row(version)
    assert row.state == State.EVALUATING
    assert row.error == {"step": "evaluate", "code": "internal_error", "error": "KeyError"}
    name = "loraplane_step_failures_total"
    assert context.metrics.registry.get_sample_value(name, {"step": "evaluate"}) == 1.0
    assert context.metrics.registry.get_sample_value(name, {"step": "stage"}) == 0.0


async def test_a_registry_that_is_away_is_not_the_versions_fault(world: StepsWorld) -> None:
    version = await evaluating(world)

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        raise RegistryUnavailable(reason="away")

    with pytest.raises(RegistryUnavailable):
        await loop_of(world).turn(lane(step))

    assert (await world.row(version)).error is None


async def test_a_step_whose_lease_is_lost_is_stopped(world: StepsWorld) -> None:
    version = await evaluating(world)
    was_cancelled = asyncio.Event()

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        await context.repository.versions.retire(row.id, actor="ann")
        lease.progress("verify", 1, 2)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            was_cancelled.set()
            raise
        return Done()

    await loop_of(world).turn(lane(step))

    assert was_cancelled.is_set()
    assert (await world.row(version)).state == State.RETIRED


async def test_a_long_evaluation_never_holds_up_a_switch(world: StepsWorld) -> None:
    slow = await evaluating(world, "slow")
    staged = await a_version(
        world.repository, an_upload("fast", adapter="other"), until=State.STAGING
    )
    switched = asyncio.Event()

    async def evaluate(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        await asyncio.sleep(60)
        return Done()

    async def stage(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        await context.repository.work.switch(row.id, lease.token, rollback_seconds=1)
        switched.set()
        return Done()

    lanes = lane(evaluate), Lane("stage", (State.STAGING,), stage, 1)
    running = asyncio.create_task(loop_of(world, *lanes, clock=time.time).run())
    async with asyncio.timeout(10):
        await switched.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert (await world.row(staged.id)).state == State.LIVE
    assert (await world.row(slow)).state == State.EVALUATING
    assert world.reference.is_closed


async def test_a_hint_wakes_a_sleeping_loop(
    world: StepsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.controller.loop._IDLE_SECONDS", 3600.0)
    done = asyncio.Event()

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        await lease.apply(move=Move(event=Event.RETIRE))
        done.set()
        return Done()

    loop = loop_of(world, lane(step), clock=time.time)
    running = asyncio.create_task(loop.run())
    await asyncio.sleep(0.05)
    await evaluating(world)
    loop.hint()
    # Without the hint the loop would look again after an hour.
    async with asyncio.timeout(60):
        await done.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_registry_that_is_away_does_not_end_the_loop(
    world: StepsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    async def away(*_args: object, **_values: object) -> None:
        calls.append(1)
        raise RegistryUnavailable(reason="away")

    monkeypatch.setattr(world.repository.work, "next_due", away)
    loop = loop_of(world, lane(None))
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(60):
        while len(calls) < 3:
            await asyncio.sleep(0.02)
            loop.hint()

    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_the_pause_grows_with_the_tries_up_to_a_minute() -> None:
    assert [backoff_seconds(n) for n in (0, 1, 2, 5, 6, 1000)] == [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]


async def test_a_version_is_looked_at_before_its_pause_is_over_when_an_engine_says_something_new(
    world: StepsWorld,
) -> None:
    await evaluating(world)
    n_looks = 0

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        nonlocal n_looks
        n_looks += 1
        if n_looks == 2:  # Too late for this look.
            await says(world, is_ready=False)
        return Retry("waiting_for_proof", after_seconds=8.0)

    loop, waits = loop_of(world), dataclasses.replace(lane(step), waits_for_engines=True)
    assert await loop.turn(waits)
    await says(world, is_ready=True)
    assert not await loop.turn(waits), "engines that talk all the time would be looked at always"
    world.clock.advance(2.0)
    assert await loop.turn(waits)
    world.clock.advance(2.0)
    assert await loop.turn(waits)
    world.clock.advance(2.0)
    await says(world, is_ready=False)  # The same as before.
    assert not await loop.turn(waits)
    world.clock.advance(6.0)
    assert await loop.turn(waits)


async def test_news_of_engines_is_nothing_to_a_step_that_does_not_wait_for_them(
    world: StepsWorld,
) -> None:
    await evaluating(world)

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        return Retry("not_yet", after_seconds=8.0)

    loop = loop_of(world)
    assert await loop.turn(lane(step))
    await says(world, is_ready=True)
    world.clock.advance(2.0)
    assert not await loop.turn(lane(step))


async def test_of_versions_that_wait_each_is_looked_at_once_for_what_is_new(
    world: StepsWorld,
) -> None:
    versions = {await evaluating(world, content) for content in ("one", "two", "three")}
    seen: list[str] = []

    async def step(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
        seen.append(row.id)
        return Retry("waiting_for_proof", after_seconds=8.0)

    loop, waits = loop_of(world), dataclasses.replace(lane(step), waits_for_engines=True)
    while await loop.turn(waits):
        pass
    seen.clear()
    await says(world, is_ready=True)
    world.clock.advance(2.0)
    while await loop.turn(waits):
        pass

    assert sorted(seen) == sorted(versions)


async def says(world: StepsWorld, *, is_ready: bool) -> None:
    """An engine reports, and but for this always the same."""
    await world.repository.fleet.record_report(a_report(is_ready=is_ready))
