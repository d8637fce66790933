"""Why a reference's Job cannot be asked: waited for with the reason, or given up with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.errors import ReferenceUnavailable
from serving.kube.cluster import EVENTS, Cluster, Kind, Listing
from serving.kube.errors import KubeTooMuch
from tests.builders.api_server import kubeconfig_text
from tests.builders.kube_worlds import KubeWorld
from tests.builders.reference_world import (
    ReferenceWorld,
    ask,
    reference_world,
    until,
)


@pytest.fixture
async def world(kube: KubeWorld, cluster: Cluster, tmp_path: Path) -> AsyncIterator[ReferenceWorld]:
    async with reference_world(kube, cluster, tmp_path) as made:
        yield made


async def test_a_pod_that_no_node_takes_is_waited_for_with_the_schedulers_words(
    world: ReferenceWorld,
) -> None:
    why = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    world.node.unschedulable = why
    client = world.client(world.template())
    waiting = asyncio.create_task(world.load(client))

    async def is_told() -> bool:
        return any(why in text for text in world.said)

    await until(is_told)
    world.node.unschedulable = None

    await waiting
    assert await ask(client) == "base"


async def test_after_the_longest_wait_the_schedulers_words_are_the_reason(
    world: ReferenceWorld,
) -> None:
    world.node.unschedulable = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    client = world.client(world.template(), wait_seconds=3.0)

    with pytest.raises(
        ReferenceUnavailable, match=r"within 3 s: no node takes pod .*nvidia\.com/gpu"
    ):
        await world.load(client)

    await client.close()
    await until(world.no_jobs)


async def test_an_image_that_cannot_be_pulled_is_told_after_a_while(world: ReferenceWorld) -> None:
    world.node.waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}

    with pytest.raises(
        ReferenceUnavailable, match="cannot start: ImagePullBackOff: Back-off pulling"
    ):
        await world.load(world.client(world.template(), stuck_seconds=0.5))


async def test_a_pod_with_another_token_is_refused(world: ReferenceWorld) -> None:
    client = world.client(world.template(LORAPLANE_REFERENCE_TOKEN="another"))

    with pytest.raises(ReferenceUnavailable, match="have different tokens"):
        await world.load(client)


async def test_a_controller_that_may_not_make_jobs_is_told_so(
    world: ReferenceWorld, kube: KubeWorld, tmp_path: Path
) -> None:
    if kube.server is not None:
        kubeconfig = kube.server.service_account(kube.namespace, "without-rights")
    else:
        assert kube.fake is not None
        kube.fake.tokens = {"mock"}
        kubeconfig = tmp_path / "kubeconfig-other"
        kubeconfig.write_text(kubeconfig_text(kube.fake.url, {"token": "other"}))
    world.cluster = await Cluster.connect(namespace=kube.namespace, kubeconfig=kubeconfig)

    try:
        with pytest.raises(ReferenceUnavailable) as caught:
            await world.load(world.client(world.template()))
    finally:
        await world.cluster.close()

    assert "Kubernetes refused the reference's Job: 40" in caught.value.fields["reason"]


async def test_a_pod_that_a_quota_refuses_is_told_from_the_jobs_event(
    world: ReferenceWorld,
) -> None:
    """A pod that is never made leaves its reason in an event alone."""
    body = yaml.safe_load(world.template())
    body["spec"]["parallelism"] = 0  # as if the quota allowed none
    world.node.makes_none = True
    client = world.client(yaml.safe_dump(body), wait_seconds=30.0)
    waiting = asyncio.create_task(world.load(client))

    async def is_made() -> bool:
        return bool(await world.jobs())

    await until(is_made)
    (job,) = await world.jobs()
    why = "pods is forbidden: exceeded quota: gpus"
    event = {
        "metadata": {"name": "refused"},
        "involvedObject": {
            "kind": "Job",
            "name": job["metadata"]["name"],
            "namespace": world.cluster.namespace,
            "uid": job["metadata"]["uid"],
        },
        "type": "Warning",
        "reason": "FailedCreate",
        "message": why,
    }
    await world.cluster.create(EVENTS, event)

    async def is_told() -> bool:
        return f"its pod was refused: {why}" in world.said

    await until(is_told)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_a_wait_without_a_pod_does_not_read_the_namespaces_events_again_and_again(
    world: ReferenceWorld, kube: KubeWorld
) -> None:
    if kube.fake is None:
        pytest.skip("only the fake server counts what it answers")
    for number in range(20):
        about = {"kind": "Pod", "name": "other", "uid": f"other-{number}"}
        event = {"metadata": {"name": f"e{number}"}, "involvedObject": about, "type": "Warning"}
        await world.cluster.create(EVENTS, event)
    world.node.makes_none = True
    client = world.client(world.template(), wait_seconds=3.0, poll_seconds=0.05)

    with pytest.raises(ReferenceUnavailable, match="its pod is awaited"):
        await world.load(client)

    assert kube.fake.n_lists["events"] <= 3
    assert kube.fake.n_listed["events"] == 0


async def test_an_events_list_that_fails_does_not_end_the_wait(
    world: ReferenceWorld, kube: KubeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(cluster: Cluster, kind: Kind, **selectors: Any) -> Listing:
        if kind == EVENTS:
            raise KubeTooMuch(what="events", limit=1)
        return await listed(cluster, kind, **selectors)

    listed = Cluster.list
    monkeypatch.setattr(Cluster, "list", refuse)
    world.node.makes_none = True
    body = yaml.safe_load(world.template())
    body["spec"]["parallelism"] = 0
    client = world.client(yaml.safe_dump(body), wait_seconds=2.0)

    with pytest.raises(ReferenceUnavailable, match="within 2 s: its pod is awaited"):
        await world.load(client)


async def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    world: ReferenceWorld, kube: KubeWorld
) -> None:
    client = world.client(world.template())
    kube.line.cut()
    loading = asyncio.create_task(world.load(client))

    async def is_told() -> bool:
        return any("the Kubernetes API does not answer" in text for text in world.said)

    await until(is_told)
    kube.line.mend()

    await loading
    assert await ask(client) == "base"
