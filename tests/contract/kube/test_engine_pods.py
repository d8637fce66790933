"""The pod watch over a registry: who leaves blocks nobody, who is scaled away is forgotten."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from serving.contract import VersionState
from serving.controller.lifecycle import State
from serving.controller.registry.fleet import ObservedEngine
from serving.kube.cluster import PODS, STATEFUL_SETS, Cluster
from serving.kube.engine_pods import NAME, run_engine_pods
from serving.kube.mirror import Mirror
from tests.builders.kube_worlds import KubeWorld
from tests.builders.registry import a_version, an_upload
from tests.builders.steps_world import StepsWorld, steps_world

SET = "f-engine"
LABELS = {"app.kubernetes.io/component": "engine"}
SELECTOR = "app.kubernetes.io/component=engine"
DEADLINE_SECONDS = 60.0


@pytest.fixture
async def world(kube: KubeWorld, tmp_path: Path) -> AsyncIterator[StepsWorld]:
    async with steps_world(tmp_path / "controller", None) as steps:
        cluster = await kube.connect(request_seconds=5.0)
        running = asyncio.create_task(run_engine_pods(steps.context, cluster, SELECTOR, SET))
        yield steps
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def direct(kube: KubeWorld) -> Cluster:
    return await kube.connect_directly()


async def scale(cluster: Cluster, replicas: int) -> None:
    """Make the set. Where its controller runs it makes pods of its own, which nobody selects."""
    spec = {
        "replicas": replicas,
        "serviceName": SET,
        "selector": {"matchLabels": {"app": "nobody"}},
        "template": {
            "metadata": {"labels": {"app": "nobody"}},
            "spec": {
                # No node will ever have this name, so nothing is started.
                "schedulerName": "nobody",
                "containers": [{"name": "engine", "image": "none"}],
            },
        },
    }
    await cluster.create(STATEFUL_SETS, {"metadata": {"name": SET}, "spec": spec})


async def add_pod(cluster: Cluster, name: str, *, finalizer: bool = False) -> None:
    """A pod of the fleet; with a finalizer it stays while it is being deleted."""
    metadata: dict[str, Any] = {"name": name, "labels": LABELS}
    if finalizer:
        metadata["finalizers"] = ["tests.loraplane.dev/hold"]
    spec = {"containers": [{"name": "engine", "image": "none"}], "schedulerName": "nobody"}
    await cluster.create(PODS, {"metadata": metadata, "spec": spec})


async def until(
    world: StepsWorld, is_so: Callable[[dict[str, ObservedEngine]], bool]
) -> dict[str, ObservedEngine]:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            engines = await world.repository.fleet.engines()
            found = {engine.report.engine_id: engine for engine in engines}
            if is_so(found):
                return found
            await asyncio.sleep(0.05)


async def test_an_engine_that_was_scaled_away_is_forgotten_with_an_audit_row(
    world: StepsWorld, direct: Cluster
) -> None:
    await add_pod(direct, "f-engine-0")
    await scale(direct, 1)
    await world.engine_says("f-engine-0")
    await world.engine_says("f-engine-1")

    world.clock.advance(60)
    found = await until(world, lambda engines: "f-engine-1" not in engines)

    audit = await world.repository.audit.latest(subject="f-engine-1", limit=1)
    assert list(found) == ["f-engine-0"]
    assert (audit[0].action, audit[0].actor) == ("forget_engine", "kubernetes")
    assert audit[0].reason is not None
    assert SET in audit[0].reason


async def test_a_silent_engine_whose_place_is_still_wanted_stays_unreachable(
    world: StepsWorld, direct: Cluster
) -> None:
    await scale(direct, 2)
    await world.engine_says("f-engine-1")
    await world.engine_says("f-engine-7")

    world.clock.advance(60)

    # Both are silent and without a pod; the one beyond the replicas shows that the watch looked.
    found = await until(world, lambda engines: "f-engine-7" not in engines)
    assert list(found) == ["f-engine-1"]


async def test_without_its_statefulset_nobody_is_forgotten(
    world: StepsWorld, direct: Cluster
) -> None:
    await world.engine_says("f-engine-0")
    await world.engine_says("f-engine-1")
    await world.repository.fleet.mark_leaving(["f-engine-0"])
    world.clock.advance(60)

    await add_pod(direct, "f-engine-0")
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    await direct.patch_status(PODS, "f-engine-0", ready)
    # That this one stays after all shows that the watch has looked.
    found = await until(world, lambda engines: not engines["f-engine-0"].is_leaving)
    await scale(direct, 1)

    assert list(found) == ["f-engine-0", "f-engine-1"]
    await until(world, lambda engines: list(engines) == ["f-engine-0"])


async def test_an_engine_whose_pod_is_being_deleted_does_not_hold_up_a_switch(
    world: StepsWorld, direct: Cluster, kube: KubeWorld
) -> None:
    if kube.server is None:
        pytest.skip("the fake server deletes at once: a pod that lingers needs a real one")
    for name in ("f-engine-0", "f-engine-1"):
        await add_pod(direct, name, finalizer=True)
    row = await a_version(world.repository, an_upload(), until=State.STAGING)
    await world.engine_says("f-engine-0", await world.said(row.id, VersionState.PROVEN))
    await world.engine_says("f-engine-1")
    await world.turn("stage")
    waiting = await world.row(row.id)

    await direct.delete(PODS, "f-engine-1")
    await until(world, lambda engines: engines["f-engine-1"].is_leaving)
    world.clock.advance(5)
    await world.engine_says("f-engine-0", await world.said(row.id, VersionState.PROVEN))
    await world.engine_says("f-engine-1")
    await world.turn("stage")

    assert waiting.state == "staging"
    assert (await world.row(row.id)).state == "live"
    for name in ("f-engine-0", "f-engine-1"):
        await direct.patch(PODS, name, {"metadata": {"finalizers": None}})


async def test_the_next_life_of_a_leaving_engine_is_not_leaving(world: StepsWorld) -> None:
    await world.engine_says("f-engine-0")
    await world.repository.fleet.mark_leaving(["f-engine-0"])
    before = await world.repository.fleet.engines()

    report = before[0].report
    await world.repository.fleet.record_report(report)
    same = await world.repository.fleet.engines()
    later = report.started_at + 100
    await world.repository.fleet.record_report(msgspec.structs.replace(report, started_at=later))

    after = await world.repository.fleet.engines()
    assert [before[0].is_leaving, same[0].is_leaving, after[0].is_leaving] == [True, True, False]


async def test_an_api_server_that_cannot_be_reached_is_counted(
    world: StepsWorld, kube: KubeWorld
) -> None:
    def n_failures() -> float:
        counted = world.context.metrics.background_failures.labels(NAME)
        return float(counted._value.get())

    before = n_failures()
    kube.line.cut()

    async with asyncio.timeout(DEADLINE_SECONDS):
        while n_failures() == before:  # noqa: ASYNC110 - the line decides
            await asyncio.sleep(0.05)
    kube.line.mend()


async def test_the_watch_ends_when_its_mirror_does(
    kube: KubeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def break_down(self: Mirror) -> None:
        await asyncio.sleep(0.1)
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(Mirror, "run", break_down)
    async with steps_world(tmp_path / "controller", None) as steps:
        cluster = await kube.connect(request_seconds=5.0)

        with pytest.raises(ExceptionGroup, match="unhandled") as caught:
            async with asyncio.timeout(DEADLINE_SECONDS):
                await run_engine_pods(steps.context, cluster, SELECTOR, SET)

    assert [str(error) for error in caught.value.exceptions] == ["a mistake of ours"]
