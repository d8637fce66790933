"""A step's hold on its version: progress that people see, and the end of a stale lease."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from serving.controller.errors import RegistryUnavailable
from serving.controller.lifecycle import State
from serving.controller.registry.tables import VersionRow
from serving.controller.steps import lease as lease_module
from serving.controller.steps.lease import Lease
from tests.builders.base_folders import TINY, card_of
from tests.builders.registry import a_version, an_upload
from tests.builders.steps_world import LEASE_SECONDS, StepsWorld, steps_world


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[StepsWorld]:
    monkeypatch.setattr(lease_module, "PROGRESS_SECONDS", 0.01)
    async with steps_world(tmp_path, card_of(TINY)) as made:
        yield made


async def claimed(world: StepsWorld) -> VersionRow:
    await a_version(world.repository, an_upload(), until=State.EVALUATING)
    row = await world.repository.work.claim_due(
        [State.EVALUATING], lease_seconds=LEASE_SECONDS, owner="test"
    )
    assert row is not None
    return row


async def until(world: StepsWorld, row: VersionRow, holds: Callable[[VersionRow], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds(await world.row(row.id)):  # noqa: ASYNC110 - the row is in a database
            await asyncio.sleep(0.01)


async def test_progress_is_written_while_the_step_works(world: StepsWorld) -> None:
    row = await claimed(world)
    lease = Lease(world.repository.work, row, lease_seconds=LEASE_SECONDS)
    keeper = asyncio.create_task(lease.keep())

    lease.progress("verify", 3, 8)
    await until(world, row, lambda found: found.progress is not None)
    keeper.cancel()

    assert (await world.row(row.id)).progress == {"stage": "verify", "done": 3, "total": 8}
    assert (await world.row(row.id)).lock_token == lease.token


async def test_a_lease_is_renewed_in_time(world: StepsWorld) -> None:
    row = await claimed(world)
    lease = Lease(world.repository.work, row, lease_seconds=0.03)
    keeper = asyncio.create_task(lease.keep())
    world.clock.advance(1000)

    await until(world, row, lambda found: (found.lock_expires_at or 0) >= world.clock.now)
    keeper.cancel()

    assert not keeper.done() or keeper.cancelled()


async def test_the_keeper_ends_when_somebody_else_moved_the_version(world: StepsWorld) -> None:
    row = await claimed(world)
    lease = Lease(world.repository.work, row, lease_seconds=LEASE_SECONDS)
    await world.repository.versions.retire(row.id, actor="ann")
    lease.progress("verify", 1, 2)

    async with asyncio.timeout(60):
        await lease.keep()

    assert not await lease.apply(error={"code": "late"})
    assert (await world.row(row.id)).error is None


async def test_a_renewal_that_finds_the_lease_stale_ends_the_keeper(world: StepsWorld) -> None:
    row = await claimed(world)
    lease = Lease(world.repository.work, row, lease_seconds=0.03)
    await world.repository.versions.retire(row.id, actor="ann")

    async with asyncio.timeout(60):
        await lease.keep()


async def test_a_registry_that_does_not_answer_is_asked_again(
    world: StepsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await claimed(world)
    lease = Lease(world.repository.work, row, lease_seconds=LEASE_SECONDS)
    working, failures = world.repository.work.apply, [1, 2]

    async def sometimes(*args: object, **values: object) -> bool:
        if failures:
            failures.pop()
            raise RegistryUnavailable(reason="away")
        return await working(*args, **values)  # type: ignore[arg-type]

    monkeypatch.setattr(world.repository.work, "apply", sometimes)
    keeper = asyncio.create_task(lease.keep())
    lease.progress("verify", 1, 2)
    await until(world, row, lambda found: found.progress is not None)
    keeper.cancel()


def test_a_version_that_nobody_claimed_has_no_lease() -> None:
    row = VersionRow(id="acme/support@1", lock_token=None)

    with pytest.raises(ValueError, match="not claimed"):
        Lease(None, row, lease_seconds=1.0)  # type: ignore[arg-type]
