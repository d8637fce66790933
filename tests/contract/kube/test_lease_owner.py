"""The Lease goes with the release: it belongs to the engines' StatefulSet."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serving.kube.cluster import LEASES, STATEFUL_SETS, Cluster
from serving.kube.errors import KubeNotFound
from serving.kube.lease import LeaseLeadership, LeaseTimes
from tests.builders.helm_release import Release
from tests.builders.kube_worlds import KubeWorld

Json = dict[str, Any]

NAME, ENGINES = "controller", "loraplane-engine"
TIMES = LeaseTimes(duration=3.0, deadline=2.0, retry=0.3)
DEADLINE_SECONDS = 60.0


def engines() -> Json:
    labels = {"app": "engine"}
    container = {"name": "engine", "image": "engine:1"}
    return {
        "metadata": {"name": ENGINES},
        "spec": {
            "replicas": 0,
            "serviceName": ENGINES,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


async def lead_once(cluster: Cluster) -> Json:
    """Take the Lease in good order and give it back; the Lease's metadata after that."""

    async def floor() -> int:
        return 0

    begun = asyncio.Event()

    async def work(term: int | None) -> None:
        begun.set()
        await asyncio.Event().wait()

    leadership = LeaseLeadership(cluster, name=NAME, identity="a", floor=floor, times=TIMES)
    task = asyncio.create_task(leadership.owned_by(ENGINES).lead(work))
    async with asyncio.timeout(DEADLINE_SECONDS):
        await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return dict((await cluster.get(LEASES, NAME))["metadata"])


async def test_a_new_lease_belongs_to_the_engines(cluster: Cluster) -> None:
    made = await cluster.create(STATEFUL_SETS, engines())

    (owner,) = (await lead_once(cluster))["ownerReferences"]

    assert (owner["kind"], owner["name"], owner["uid"]) == (
        "StatefulSet",
        ENGINES,
        made["metadata"]["uid"],
    )
    # Neither waits for the other.
    assert not owner.get("blockOwnerDeletion")


async def test_without_engines_there_is_a_leader_and_the_next_one_makes_up_for_it(
    cluster: Cluster,
) -> None:
    first = await lead_once(cluster)
    made = await cluster.create(STATEFUL_SETS, engines())

    second = await lead_once(cluster)

    assert "ownerReferences" not in first
    assert [owner["uid"] for owner in second["ownerReferences"]] == [made["metadata"]["uid"]]


async def test_the_lease_is_gone_when_the_engines_are(kube: KubeWorld, cluster: Cluster) -> None:
    if kube.server is None:
        pytest.skip("the fake API server collects no garbage")
    await cluster.create(STATEFUL_SETS, engines())
    await lead_once(cluster)

    await cluster.delete(STATEFUL_SETS, ENGINES)

    async with asyncio.timeout(DEADLINE_SECONDS):
        while await _is_there(cluster):  # noqa: ASYNC110 - polls what no event tells
            await asyncio.sleep(0.1)


async def test_an_uninstall_leaves_no_lease(release: Release) -> None:
    await asyncio.to_thread(release.install)
    cluster = await Cluster.connect(namespace=release.namespace, kubeconfig=release.kubeconfig)
    await lead_once(cluster)

    await asyncio.to_thread(release.uninstall)

    async with asyncio.timeout(DEADLINE_SECONDS):
        while await _is_there(cluster):  # noqa: ASYNC110 - polls what no event tells
            await asyncio.sleep(0.1)
    await cluster.close()


async def _is_there(cluster: Cluster) -> bool:
    try:
        await cluster.get(LEASES, NAME)
    except KubeNotFound:
        return False
    return True
