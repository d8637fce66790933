"""What puts an evaluation off: deaths over the adapter are counted, absence never ends it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.errors import ReferenceFailed, ReferenceUnavailable
from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.steps import candidate
from tests.builders.gate_world import GateWorld, gate_world
from tests.builders.random_adapters import random_adapter


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[GateWorld]:
    monkeypatch.setattr(candidate, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(candidate, "_PAUSE_SECONDS", 0.05)
    async with gate_world(tmp_path / "data") as made:
        yield made


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return random_adapter(tiny_base(), tmp_path / "adapter", seed=1)


async def test_a_reference_that_nobody_can_start_is_waited_for_and_judges_nothing(
    world: GateWorld, adapter: Path
) -> None:
    world.reference.absences_left = 6
    version = await world.push(adapter)
    await world.steps.turn("validate")

    for _ in range(6):
        await world.steps.turn("evaluate")
        row = await world.steps.row(version)
        assert row.state == State.EVALUATING
        assert row.error is not None
        assert row.error["code"] == ReferenceUnavailable.code
        assert row.error["reason"] == "no node takes it"
        world.steps.clock.advance(120)

    assert await world.drive(version) == State.LIVE


async def test_an_evaluation_that_was_put_off_before_still_survives_one_death(
    world: GateWorld, adapter: Path
) -> None:
    world.engine.faults.statuses["base"] = 500
    version = await world.push(adapter)
    await world.steps.turn("validate")
    for _ in range(3):
        await world.steps.turn("evaluate")
        world.steps.clock.advance(120)
    put_off = await world.steps.row(version)
    world.engine.faults.statuses.clear()
    world.reference.failures_left = 1

    assert await world.drive(version) == State.LIVE

    assert put_off.attempts == 3


async def test_deaths_are_counted_across_what_else_puts_an_evaluation_off(
    world: GateWorld, adapter: Path
) -> None:
    version = await world.push(adapter)
    await world.steps.turn("validate")
    for _ in range(2):
        world.reference.failures_left = 1
        await world.steps.turn("evaluate")
        world.reference.absences_left = 1
        world.steps.clock.advance(120)
        await world.steps.turn("evaluate")
        world.steps.clock.advance(120)
    before = await world.steps.row(version)
    world.reference.failures_left = 1

    assert await world.drive(version) == State.INCONCLUSIVE

    assert before.error is not None
    assert (before.error["code"], before.error["n_deaths"]) == (ReferenceUnavailable.code, 2)
    assert await world.reasons(version) == [ReferenceFailed.code]


async def test_a_reference_that_keeps_dying_ends_inconclusive(
    world: GateWorld, adapter: Path
) -> None:
    world.reference.failures_left = 3
    version = await world.push(adapter)

    assert await world.drive(version) == State.INCONCLUSIVE

    assert await world.reasons(version) == [ReferenceFailed.code]
    assert version not in world.engine.seen


async def test_a_reference_that_dies_once_is_asked_again(world: GateWorld, adapter: Path) -> None:
    world.reference.failures_left = 1
    version = await world.push(adapter)

    assert await world.drive(version) == State.LIVE
