"""Who manages an adapter, who takes over, and what a deletion does: without any finalizer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.controller.lifecycle import State
from serving.kube.kinds import Json
from serving.kube.lora_teller import LoraTeller
from tests.builders.kube_worlds import KubeWorld
from tests.builders.lora_world import LoraWorld, lora_world


@pytest.fixture
async def world(kube: KubeWorld, tmp_path: Path) -> AsyncIterator[LoraWorld]:
    async with lora_world(kube, tmp_path) as made:
        yield made


async def test_the_younger_of_two_for_one_adapter_is_refused_and_takes_over_later(
    world: LoraWorld,
) -> None:
    await world.start()
    uri = await world.source("support")
    await world.add("first", uri, adapter="support", deletionPolicy="Retire")
    await world.until_reason("first", "Accepted", "Registered")
    # Times of creation have whole seconds.
    await asyncio.sleep(1.1)
    await world.add("second", uri, adapter="support")
    refused = await world.until_reason("second", "Accepted", "Conflict")
    await world.make_live("acme/support@1")

    await world.remove("first")
    status = await world.until_state("second", "live")

    assert "first" in refused["failure"]["message"]
    assert (status["version"], status["live"]) == (1, 1)


async def test_deletion_with_retain_leaves_everything(world: LoraWorld) -> None:
    await world.start()
    await world.add("support")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.until_state("support", "live")

    await world.remove("support")
    await world.until_released("support")

    assert (await world.repository.versions.find("acme/support@1")).state == "live"


async def test_deletion_with_retire_retires_what_it_registered_and_nothing_else(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support", deletionPolicy="Retire")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.until_state("support", "live")

    await world.remove("support")

    row = await world.until_row("acme/support@1", State.RETIRED)
    audit = await world.repository.audit.latest(subject=row.id, limit=1)
    assert audit[0].actor == f"kubernetes:{world.kube.namespace}/support"
    assert await world.repository.fleet.aliases(tenant_id="acme") == []


async def test_a_deletion_while_no_controller_ran_is_noticed_by_the_next(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support", deletionPolicy="Retire")
    await world.until_reason("support", "Accepted", "Registered")
    await world.stop()

    await world.remove("support")
    await world.start()

    await world.until_row("acme/support@1", State.RETIRED)


async def test_an_object_that_was_replaced_takes_over_and_nothing_is_retired(
    world: LoraWorld,
) -> None:
    await world.start()
    await world.add("support", deletionPolicy="Retire")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.until_state("support", "live")
    await world.stop()

    await world.remove("support")
    fresh = await world.add("support")
    await world.start()
    status = await world.until_state("support", "live")

    record = await world.repository.managed.find("acme", "support")
    assert record is not None
    assert record.uid == fresh["metadata"]["uid"]
    assert (status["version"], status["live"]) == (1, 1)


async def test_an_object_that_is_made_again_while_its_deletion_is_carried_out_takes_over(
    world: LoraWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked shows the new one before the watch has told of it."""
    fetch, made = LoraTeller.fetch, []

    async def make_again_and_fetch(teller: LoraTeller, name: str) -> Json | None:
        if not made:
            made.append(await world.add("support", deletionPolicy="Retire"))
        return await fetch(teller, name)

    await world.start()
    await world.add("support", deletionPolicy="Retire")
    await world.make_live((await world.until_version("support", 1)).id)
    await world.until_state("support", "live")
    monkeypatch.setattr(LoraTeller, "fetch", make_again_and_fetch)

    await world.remove("support")
    async with asyncio.timeout(60):
        while not made:  # noqa: ASYNC110 - the controller decides
            await asyncio.sleep(0.02)
    status = await world.until_state("support", "live")

    record = await world.repository.managed.find("acme", "support")
    told = {row.action for row in await world.repository.audit.latest(limit=100)}
    assert record is not None
    assert record.uid == made[0]["metadata"]["uid"]
    assert (status["version"], status["live"]) == (1, 1)
    assert "retire" not in told


async def test_nothing_is_retired_while_the_api_server_cannot_be_asked(world: LoraWorld) -> None:
    await world.start()
    await world.add("support", deletionPolicy="Retire")
    await world.until_reason("support", "Accepted", "Registered")
    await world.stop()

    world.kube.line.cut()
    await world.start()
    await asyncio.sleep(1.0)
    world.kube.line.mend()
    await world.until_reason("support", "Accepted", "Registered")

    assert (await world.repository.versions.find("acme/support@1")).state == "validating"
    assert await world.repository.managed.find("acme", "support") is not None
