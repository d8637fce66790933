"""After go-live: a version that no longer answers as proven leaves its engine, and nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import pytest

from serving.contract import Probe, ProbeCase, VersionEntry, VersionState
from serving.engine.scope import RequestRefused, RequestScope
from tests.builders.snapshots import key, snapshot, version
from tests.fakes.engine_port import answer_of
from tests.fakes.engine_world import World

ACME = key("acme-key")
SOON = 0.01


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path, probe_interval_seconds=SOON)
    yield world
    await world.runtime.stop()


async def a_version(world: World, name: str, text: str) -> VersionEntry:
    right = answer_of(b"{}" + text.encode(), [1, 2], 2)
    probe = Probe([ProbeCase([1, 2], list(right.token_ids), list(right.logprobs))], 0.1, 0.01)
    return version(name, digest=await world.put(text), probe=probe)


async def run(world: World, *entries: VersionEntry) -> None:
    names = tuple(entry.name for entry in entries)
    wanted = snapshot(*entries, aliases=names, keys=(ACME,), store_url=world.store_url)
    world.link.publish(wanted)
    await world.run()
    await world.until(lambda: world.runtime.readiness() is None)


async def answering(world: World, model: str) -> str | None:
    scope = RequestScope(ACME)
    await world.runtime.admit(scope, model, {})
    scope.release()
    return scope.answering_name()


def n_probes(world: World, outcome: str) -> float:
    labels = {"outcome": outcome}
    return world.registry.get_sample_value("loraplane_adapter_probes_total", labels) or 0.0


def n_failures(world: World, name: str) -> float:
    labels = {"adapter": name}
    return world.registry.get_sample_value("loraplane_adapter_probe_failures_total", labels) or 0.0


async def test_proven_versions_are_probed_again_and_go_on_answering(world: World) -> None:
    one = await a_version(world, "acme/support@1", "one")
    await run(world, one)

    await world.until(lambda: n_probes(world, "passed") >= 4)

    assert await answering(world, "support") == one.name
    assert n_probes(world, "failed") == 0


async def test_a_version_that_answers_otherwise_is_quarantined_counted_and_told(
    world: World,
) -> None:
    one = await a_version(world, "acme/support@1", "one")
    two = await a_version(world, "acme/sales@1", "two")
    await run(world, one, two)

    world.port.cached[one.name] = b"{}other weights"  # what a flipped bit in memory would do

    def is_out() -> bool:
        report = world.seen(one.name)
        return report is not None and report.state is VersionState.QUARANTINED

    await world.until(is_out)
    await world.until(lambda: one.name not in world.port.cached)
    report = world.seen(one.name)
    assert report is not None
    assert report.reason == "probe_tokens"
    assert n_failures(world, one.name) == 1
    with pytest.raises(RequestRefused) as refused:
        await answering(world, "support")
    assert refused.value.status is HTTPStatus.SERVICE_UNAVAILABLE
    assert await answering(world, "sales") == two.name
    assert n_failures(world, two.name) == 0


async def test_an_engine_that_does_not_answer_a_probe_loses_no_version(world: World) -> None:
    one = await a_version(world, "acme/support@1", "one")
    await run(world, one)

    world.port.is_down = True
    await world.until(lambda: n_probes(world, "unanswered") >= 2)
    world.port.is_down = False

    assert await answering(world, "support") == one.name
    assert n_probes(world, "failed") == 0


async def test_bytes_read_again_after_an_eviction_are_probed_before_their_turn(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, cpu_slots=1, probe_interval_seconds=1e6)
    one = await a_version(world, "acme/support@1", "one")
    two = await a_version(world, "acme/sales@1", "two")
    await run(world, one, two)
    assert n_probes(world, "passed") == 2
    evicted = next(e for e in (one, two) if e.name not in world.runtime.admission.resident)

    assert await answering(world, evicted.adapter) == evicted.name

    await world.until(lambda: n_probes(world, "passed") == 3)
    assert await answering(world, evicted.adapter) == evicted.name
    await world.runtime.stop()


async def test_a_probe_changes_no_order_of_eviction(world: World) -> None:
    one = await a_version(world, "acme/support@1", "one")
    two = await a_version(world, "acme/sales@1", "two")
    await run(world, one, two)
    for model in ("support", "sales"):
        await answering(world, model)

    so_far = n_probes(world, "passed")
    await world.until(lambda: n_probes(world, "passed") >= so_far + 4)

    assert world.runtime.admission.resident == (one.name, two.name)
