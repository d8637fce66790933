"""Staging against the real registry: the alias moves once every ready engine has proven it."""

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
    async with steps_world(tmp_path, card_of(TINY), stage_timeout_seconds=60.0) as made:
        yield made


async def staged(world: StepsWorld, content: str = "one") -> str:
    row = await a_version(world.repository, an_upload(content), until=State.STAGING)
    return row.id


async def test_with_no_engine_a_staged_version_waits(world: StepsWorld) -> None:
    version = await staged(world)

    for _ in range(3):
        assert await world.turn("stage")
        world.clock.advance(1000)

    row = await world.row(version)
    assert row.state == State.STAGING
    assert row.error is not None
    assert row.error["code"] == "waiting_for_engine"
    assert await world.alias() is None


async def test_the_alias_moves_when_every_ready_engine_has_proven_it(world: StepsWorld) -> None:
    version = await staged(world)
    await world.engine_says("e1", await world.said(version, VersionState.PROVEN))
    await world.engine_says("e2", await world.said(version, VersionState.LOADING))
    await world.turn("stage")
    assert (await world.row(version)).state == State.STAGING

    await world.engine_says("e2", await world.said(version, VersionState.PROVEN))
    world.clock.advance(3)
    await world.turn("stage")

    assert (await world.row(version)).state == State.LIVE
    assert await world.alias() == 1
    (audit, *_) = await world.repository.audit.latest(subject=version)
    assert audit.evidence == {"proven_on": ["e1", "e2"]}


async def test_the_old_version_is_superseded_and_kept_for_a_rollback(world: StepsWorld) -> None:
    first = await staged(world, "one")
    await world.engine_says("e1", await world.said(first, VersionState.PROVEN))
    await world.turn("stage")
    second = await staged(world, "two")
    await world.engine_says(
        "e1",
        await world.said(first, VersionState.PROVEN),
        await world.said(second, VersionState.PROVEN),
    )

    await world.turn("stage")

    assert (await world.row(first)).state == State.SUPERSEDED
    assert await world.alias() == 2
    assert [entry.name for entry in (await world.snapshot()).versions] == [first, second]


async def test_an_engine_that_cannot_prove_it_blocks_the_switch_and_is_named(
    world: StepsWorld,
) -> None:
    live = await staged(world, "one")
    await world.engine_says("e1", await world.said(live, VersionState.PROVEN))
    await world.turn("stage")
    version = await staged(world, "two")
    await world.engine_says("e1", await world.said(version, VersionState.PROVEN))
    failed = await world.said(version, VersionState.FAILED, reason="probe_mismatch")
    await world.engine_says("e2", failed)

    await world.turn("stage")

    row = await world.row(version)
    assert row.state == State.STAGING
    assert row.error is not None
    assert row.error["code"] == "engine_cannot_prove"
    assert row.error["failed"] == [{"engine": "e2", "reason": "probe_mismatch", "detail": None}]
    assert await world.alias() == 1


async def test_after_the_timeout_a_blocked_version_is_held_with_the_reason(
    world: StepsWorld,
) -> None:
    version = await staged(world)
    failed = await world.said(version, VersionState.FAILED, reason="no_memory")
    await world.engine_says("e1", failed)
    await world.turn("stage")
    world.clock.advance(61)
    await world.engine_says("e1", failed)

    await world.turn("stage")

    row = await world.row(version)
    assert row.state == State.PASSED
    assert row.error is not None
    assert (row.error["code"], row.error["failed"][0]["reason"]) == ("stage_timeout", "no_memory")
    assert (await world.snapshot()).versions == []
    await world.repository.versions.promote(version, actor="ann")
    assert (await world.row(version)).attempt > failed.attempt


async def test_time_without_a_ready_engine_does_not_count_against_the_version(
    world: StepsWorld,
) -> None:
    version = await staged(world)
    await world.turn("stage")
    world.clock.advance(10_000)
    await world.engine_says("e1", await world.said(version, VersionState.LOADING))

    await world.turn("stage")

    assert (await world.row(version)).state == State.STAGING


async def test_a_version_withdrawn_meanwhile_is_not_switched(world: StepsWorld) -> None:
    version = await staged(world)
    await world.engine_says("e1", await world.said(version, VersionState.PROVEN))
    await world.repository.versions.retire(version, actor="ann")

    assert not await world.turn("stage")

    assert (await world.row(version)).state == State.RETIRED
    assert await world.alias() is None


async def test_a_wait_of_days_is_a_wait_still(world: StepsWorld) -> None:
    version = await staged(world)

    async def waited(unit: Unit) -> None:
        await unit.session.execute(update(VersionRow).values(attempts=5000))

    await world.repository.sessions.write(waited)
    await world.turn("stage")

    row = await world.row(version)
    assert row.error is not None
    assert row.error["code"] == "waiting_for_engine"
