"""Residency wishes on an engine room with a fake engine: what is kept near, and what is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from serving.contract import EngineWishes, FleetSnapshot, gate_key
from serving.engine import residency
from serving.engine.resolution import SCOPE_GATE
from serving.engine.scope import RequestScope
from tests.builders.snapshots import SECRET, key, snapshot, version
from tests.fakes.engine_world import World

ACME = key("acme-key")
GATE = key(gate_key(SECRET), tenant="", scopes=(SCOPE_GATE,))
NAMES = [f"acme/a{index}@1" for index in range(6)]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Six versions, all proven, and room for four; the last four are in memory."""
    world = World(tmp_path, cpu_slots=4)
    world.link.publish(await desired(world))
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)
    yield world
    await world.runtime.stop()


async def desired(world: World, **wishes: object) -> FleetSnapshot:
    revision = (world.link.snapshot.revision if world.link.snapshot else 0) + 1
    entries = [version(name, digest=await world.put(name)) for name in NAMES]
    made = snapshot(*entries, revision=revision, keys=(ACME,), store_url=world.store_url)
    ours = EngineWishes("engine-0", **wishes)  # type: ignore[arg-type]
    return msgspec.structs.replace(made, residency=[EngineWishes("engine-1", hot=NAMES), ours])


async def wish(world: World, **wishes: object) -> None:
    made = await desired(world, **wishes)
    world.link.publish(made)
    await world.until(lambda: world.runtime.agent.followed_revision == made.revision)


async def ask(world: World, name: str, grant: object = ACME) -> None:
    scope = RequestScope(grant)  # type: ignore[arg-type]
    await world.runtime.admit(scope, name, {})
    scope.release()


def prefetches(world: World) -> dict[str, float | None]:
    return {
        outcome: world.registry.get_sample_value("loraplane_prefetches_total", {"outcome": outcome})
        for outcome in ("loaded", "refused", "skipped")
    }


async def test_the_engine_hears_of_its_own_hot_adapters_and_of_none_when_turned_off(
    world: World,
) -> None:
    await wish(world, hot=[NAMES[1], NAMES[0]])
    await world.until(lambda: world.port.hot == (NAMES[1], NAMES[0]))

    await wish(world)
    await world.until(lambda: world.port.hot == ())


async def test_an_engine_that_did_not_answer_hears_of_the_latest_wishes_later(
    world: World,
) -> None:
    world.port.is_down = True
    await wish(world, hot=[NAMES[1]])
    await wish(world, hot=[NAMES[2]])
    world.port.is_down = False

    await world.until(lambda: world.port.hot == (NAMES[2],))


async def test_a_hot_adapter_outlives_a_scan_in_memory_and_others_do_not(world: World) -> None:
    await wish(world, hot=[NAMES[0], "acme/unknown@9"])
    await ask(world, NAMES[0])
    # Proving six versions in room for four has evicted some of them before, as often as it came.
    before = {name: world.port.loads[name].evictions_cache for name in NAMES}

    for name in NAMES[1:] * 2:
        await ask(world, name)

    evicted = {name: world.port.loads[name].evictions_cache - before[name] for name in NAMES}
    assert NAMES[0] in world.port.cached
    assert evicted[NAMES[0]] == 0
    assert all(evicted[name] > 0 for name in NAMES[1:])


async def test_what_is_reported_as_pinned_is_wished_for_and_holds_a_slot(world: World) -> None:
    facts = await world.port.observe()
    held, absent = facts.active[-1], next(name for name in NAMES if name not in facts.active)

    await wish(world, hot=[absent, held])

    await world.until(
        lambda: world.link.last_report is not None and world.link.last_report.pinned == [held]
    )


async def test_a_tenants_burst_brings_its_companions_into_free_places(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency, "VICTIM_IDLE_SECONDS", 0.0)
    absent = [name for name in NAMES if name not in world.port.cached]
    first = next(iter(world.port.cached))
    await wish(world, companions={"acme": [first, *absent, "acme/unknown@9"]})

    await ask(world, first, GATE)
    await ask(world, first)
    await world.until(lambda: prefetches(world)["skipped"] == 1)

    assert prefetches(world) == {"loaded": 2, "refused": 0, "skipped": 1}
    assert set(absent) <= set(world.port.cached)
    await ask(world, first)
    assert sum(value or 0 for value in prefetches(world).values()) == 3


async def test_companions_never_take_the_place_of_what_was_used_lately(world: World) -> None:
    cached = list(world.port.cached)
    absent = [name for name in NAMES if name not in cached]
    await wish(world, companions={"acme": absent})

    await ask(world, cached[0])
    await world.until(lambda: prefetches(world)["skipped"] == 2)

    assert set(world.port.cached) == set(cached)


async def test_a_companion_that_cannot_be_read_is_counted_and_harms_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residency, "VICTIM_IDLE_SECONDS", 0.0)
    cached = list(world.port.cached)
    absent = next(name for name in NAMES if name not in cached)
    await wish(world, companions={"acme": [absent]})
    for folder in world.artifacts.iterdir():
        for file in folder.glob("*.safetensors"):
            if file.read_text() == absent:
                file.write_text("REFUSE")

    await ask(world, cached[0])
    await world.until(lambda: prefetches(world)["refused"] == 1)

    assert set(world.port.cached) == set(cached)
