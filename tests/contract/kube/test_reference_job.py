"""The gate's reference as a Job: made, asked, replaced, found again and removed.

The pods run the real reference server; its child is a quick stand-in without torch, but in the last
test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.errors import ReferenceFailed, ReferenceUnavailable
from adapters.manifest import manifest_of_folder
from adapters.parity.protocol import VerifyItem
from adapters.parity.reference_client import ReferenceClient
from adapters.store import ArtifactStore, folder_name
from serving.kube.cluster import JOBS, STATEFUL_SETS, Cluster
from tests.builders.kube_worlds import KubeWorld
from tests.builders.micro_base import live_adapter, micro_base
from tests.builders.reference_job import server_template
from tests.builders.reference_world import (
    DEADLINE_SECONDS,
    HANGS,
    ReferenceWorld,
    ask,
    reference_world,
    until,
)


@pytest.fixture
async def world(kube: KubeWorld, cluster: Cluster, tmp_path: Path) -> AsyncIterator[ReferenceWorld]:
    async with reference_world(kube, cluster, tmp_path) as made:
        yield made


async def test_a_job_is_made_when_first_asked_and_deleted_when_closed(
    world: ReferenceWorld,
) -> None:
    client = world.client(world.template())
    assert await world.no_jobs()

    await world.load(client)

    assert await ask(client) == "base"
    (job,) = await world.jobs()
    assert job["spec"]["ttlSecondsAfterFinished"] == 600
    assert job["spec"]["activeDeadlineSeconds"] == 3600
    assert any("is starting" in text or "is awaited" in text for text in world.said)
    (process,) = world.node.processes.values()
    await client.close()
    await until(world.no_jobs)
    assert await asyncio.wait_for(process.wait(), DEADLINE_SECONDS) == 143


async def test_a_controller_that_starts_again_finds_the_job_with_its_base(
    world: ReferenceWorld,
) -> None:
    template = world.template()
    await world.load(world.client(template))
    await world.forgotten()

    after = world.client(template)

    assert await ask(after) == "base"  # nobody told it to load one
    assert len(world.node.started) == 1


async def test_a_newer_controller_takes_over_and_the_older_one_leaves_it_the_job(
    world: ReferenceWorld,
) -> None:
    template = world.template()
    older, newer = world.client(template), world.client(template)
    await world.load(older)

    await world.load(newer)

    with pytest.raises(ReferenceUnavailable, match="another controller has taken"):
        await ask(older)
    await older.close()
    assert await ask(newer) == "base,base"  # both loaded it in the same process
    assert len(await world.jobs()) == 1


async def test_one_that_may_lead_no_more_leaves_the_job_to_its_successor(
    world: ReferenceWorld,
) -> None:
    """Its successor may have found the Job and not connected yet."""
    is_leading = True
    template = world.template()
    deposed = world.client(template, is_held=lambda: is_leading)
    await world.load(deposed)
    (job,) = await world.jobs()

    is_leading = False
    await deposed.close()

    assert [item["metadata"]["uid"] for item in await world.jobs()] == [job["metadata"]["uid"]]
    assert await ask(world.client(template)) == "base"  # with the base still loaded


async def test_a_pod_that_dies_is_replaced_and_the_request_is_sent_again(
    world: ReferenceWorld,
) -> None:
    client = world.client(world.template())
    await world.load(client)
    waiting = asyncio.create_task(client.generate(None, [1], HANGS))
    await asyncio.sleep(0.3)
    world.node.kill(world.node.started[0])

    async def is_replaced() -> bool:
        return len(world.node.started) == 2

    await until(is_replaced)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)

    assert await ask(client) == "base"
    assert len(await world.jobs()) == 1


async def test_a_request_that_kills_two_pods_fails_with_the_reason_and_the_log(
    world: ReferenceWorld, kube: KubeWorld
) -> None:
    client = world.client(world.template())
    await world.load(client)
    waiting = asyncio.create_task(client.generate(None, [1], HANGS))
    for n in range(2):
        async with asyncio.timeout(DEADLINE_SECONDS):
            while client._channel is None or len(world.node.started) <= n:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.3)
        world.node.kill(world.node.started[n])

    with pytest.raises(ReferenceFailed) as caught:
        await waiting

    reason = caught.value.fields["reason"]
    assert f"pod {world.node.started[1]} ended with exit code 137" in reason
    assert reason.endswith("during generate")
    if kube.fake is not None:  # the real one has no kubelet to ask for a log
        assert "waiting for a client" in caught.value.fields["log_tail"]


async def test_a_request_that_kills_a_jobs_only_pod_is_that_requests_end(
    world: ReferenceWorld,
) -> None:
    """Not for lack of a cluster: without this such an adapter would be asked for ever."""
    body = yaml.safe_load(world.template())
    body["spec"]["backoffLimit"] = 0
    client = world.client(yaml.safe_dump(body))
    await world.load(client)
    waiting = asyncio.create_task(client.generate(None, [1], HANGS))

    async def kill_all() -> bool:
        # A Job that has ended by then is made again, and its pod is asked and dies as well.
        await asyncio.sleep(0.3)
        for pod, process in world.node.processes.items():
            if process.returncode is None and client._channel is not None:
                world.node.kill(pod)
        return waiting.done()

    await until(kill_all)
    with pytest.raises(ReferenceFailed, match="exit code 137 during generate"):
        await waiting


async def test_a_job_that_gave_up_is_told_with_its_exit_code_and_log(
    world: ReferenceWorld, kube: KubeWorld
) -> None:
    body = yaml.safe_load(world.template(FAILS_AT_START="yes"))
    body["spec"]["backoffLimit"] = 0

    with pytest.raises(ReferenceUnavailable) as caught:
        await world.load(world.client(yaml.safe_dump(body)))

    reason = caught.value.fields["reason"]
    assert "given up: BackoffLimitExceeded" in reason
    assert f"pod {world.node.started[0]} ended with exit code 1" in reason
    if kube.fake is not None:
        assert caught.value.fields["log_tail"] == "no GPU is visible"
    assert len(await world.jobs()) == 1  # for people to look at


async def test_a_job_that_has_ended_is_made_anew(world: ReferenceWorld) -> None:
    template = world.template(LORAPLANE_REFERENCE_UNUSED_SECONDS="0.5")
    client = world.client(template)
    await world.load(client)
    (first,) = await world.jobs()
    await world.forgotten()

    async def is_complete() -> bool:
        conditions = (await world.jobs())[0].get("status", {}).get("conditions") or []
        return any(item["type"] == "Complete" for item in conditions)

    await until(is_complete)
    await world.load(world.client(template))

    (second,) = await world.jobs()
    assert second["metadata"]["uid"] != first["metadata"]["uid"]
    assert second["metadata"]["name"] == first["metadata"]["name"]


async def test_a_job_that_was_deleted_while_waited_for_is_made_anew(world: ReferenceWorld) -> None:
    world.node.unschedulable = "0/3 nodes are available"
    waiting = asyncio.create_task(world.load(world.client(world.template())))

    async def is_made() -> bool:
        return bool(await world.jobs())

    await until(is_made)
    (first,) = await world.jobs()
    await world.cluster.delete(JOBS, first["metadata"]["name"])

    world.node.unschedulable = None
    await waiting
    (second,) = await world.jobs()
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


async def test_a_job_of_another_template_is_not_used_but_removed(world: ReferenceWorld) -> None:
    await world.load(world.client(world.template()))
    await world.forgotten()
    (old,) = await world.jobs()

    await world.load(world.client(world.template(LORAPLANE_REFERENCE_UNUSED_SECONDS="99")))

    assert old["metadata"]["name"] not in {job["metadata"]["name"] for job in await world.jobs()}
    assert len(world.node.started) == 2


async def test_the_owner_takes_the_job_along(world: ReferenceWorld, kube: KubeWorld) -> None:
    await world.cluster.create(STATEFUL_SETS, engines())
    client = world.client(world.template(), owner="acme-engine")
    await world.load(client)
    (job,) = await world.jobs()
    owner = await world.cluster.get(STATEFUL_SETS, "acme-engine")
    (reference,) = job["metadata"]["ownerReferences"]
    assert reference["uid"] == owner["metadata"]["uid"]
    assert reference["kind"] == "StatefulSet"

    if kube.fake is None:  # only the real one collects garbage
        await world.cluster.delete(STATEFUL_SETS, "acme-engine")
        await until(world.no_jobs)


def engines() -> dict[str, Any]:
    labels = {"app": "engine"}
    container = {"name": "engine", "image": "example.test/engine:1"}
    return {
        "metadata": {"name": "acme-engine"},
        "spec": {
            "replicas": 0,
            "serviceName": "acme-engine",
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


@pytest.mark.slow
async def test_the_real_model_in_a_job_answers_as_one_on_this_machine(
    world: ReferenceWorld, tmp_path: Path
) -> None:
    base = micro_base(tmp_path / "base")
    live_adapter(base).save_pretrained(tmp_path / "adapter")
    digest = await ArtifactStore.from_url(world.store_url).put(
        manifest_of_folder(tmp_path / "adapter"), tmp_path / "adapter"
    )
    item = VerifyItem("c", (5, 6, 7), (9, 10, 11))
    local = ReferenceClient(threads=1, device="cpu", timeout_seconds=300.0)
    world.clients.append(local)
    remote = world.client(server_template(world.store_url)[0])

    await remote.load_base(base, dtype="float32")
    await local.load_base(base, dtype="float32")

    assert await remote.verify(
        Path("/not/here") / folder_name(digest), [item], against_base=True
    ) == await local.verify(tmp_path / "adapter", [item], against_base=True)
