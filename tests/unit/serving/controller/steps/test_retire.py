"""Retirement: out of the snapshot at once, released when no engine can hold it any more."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import update

from serving.contract import VersionState
from serving.controller.lifecycle import State
from serving.controller.registry.tables import VersionRow
from serving.controller.registry.transactions import Unit
from tests.builders.base_folders import TINY, card_of
from tests.builders.registry import a_version, an_upload
from tests.builders.steps_world import StepsWorld, steps_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[StepsWorld]:
    async with steps_world(tmp_path, card_of(TINY)) as made:
        yield made


async def retired(world: StepsWorld) -> str:
    row = await a_version(world.repository, an_upload(), until=State.LIVE)
    await world.engine_says("e1", await world.said(row.id, VersionState.PROVEN))
    await world.repository.versions.retire(row.id, actor="ann")
    return row.id


async def test_a_superseded_version_is_retired_after_the_rollback_window(
    world: StepsWorld,
) -> None:
    old = await a_version(world.repository, an_upload("one"), until=State.LIVE)
    await a_version(world.repository, an_upload("two"), until=State.LIVE)
    assert not await world.turn("retire")

    world.clock.advance(3601)
    assert await world.turn("retire")

    assert (await world.row(old.id)).state == State.RETIRED
    assert [entry.number for entry in (await world.snapshot()).versions] == [2]


async def test_a_retired_version_is_released_when_no_engine_reports_it(world: StepsWorld) -> None:
    version = await retired(world)
    await world.engine_says("e1")

    await world.turn("retire")

    assert (await world.row(version)).released_at == world.clock.now
    assert not await world.turn("retire")


async def test_an_engine_that_still_holds_it_delays_the_release(world: StepsWorld) -> None:
    version = await retired(world)
    await world.engine_says("e1", await world.said(version, VersionState.PROVEN))

    await world.turn("retire")

    row = await world.row(version)
    assert row.released_at is None
    assert row.error is not None
    assert row.error["holding"] == ["e1"]


async def test_an_engine_that_is_behind_may_not_know_yet(world: StepsWorld) -> None:
    version = await retired(world)
    await world.engine_says("e1", revision=1)

    await world.turn("retire")

    row = await world.row(version)
    assert row.released_at is None
    assert row.error is not None
    assert row.error["behind"] == ["e1"]


async def test_unreachable_is_not_absent_until_an_operator_says_so(world: StepsWorld) -> None:
    version = await retired(world)
    world.clock.advance(1000)
    await world.turn("retire")
    row = await world.row(version)
    assert row.error is not None
    assert row.error["unknown"] == ["e1"]

    await world.repository.fleet.forget_engine("e1", actor="ann")
    world.clock.advance(100)
    await world.turn("retire")

    assert (await world.row(version)).released_at is not None


async def test_a_wait_of_days_is_a_wait_still(world: StepsWorld) -> None:
    version = await retired(world)
    await world.engine_says("e1", await world.said(version, VersionState.PROVEN))

    async def waited(unit: Unit) -> None:
        await unit.session.execute(update(VersionRow).values(attempts=5000))

    await world.repository.sessions.write(waited)
    await world.turn("retire")

    row = await world.row(version)
    assert row.error is not None
    assert row.error["code"] == "waiting_for_release"
