"""The gate's reference as a Job: made, waited for, asked, replaced, found again and removed.

On the fake API server the small node makes the Jobs' pods too; on the real one the Job controller
does. The pods run the real reference server; its child is a quick stand-in without torch, but in
the last test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from adapters.errors import ReferenceFailed
from adapters.manifest import manifest_of_folder
from adapters.parity.protocol import VerifyItem
from adapters.parity.reference_client import ReferenceClient
from adapters.store import ArtifactStore, folder_name
from serving.kube.cluster import EVENTS, JOBS, STATEFUL_SETS, Cluster
from serving.kube.reference_job import JobLauncher
from serving.kube.reference_objects import ReferenceObjects
from serving.kube.reference_template import ReferenceTemplate
from tests.builders.api_server import kubeconfig_text
from tests.builders.kube_worlds import KubeWorld
from tests.builders.micro_base import live_adapter, micro_base
from tests.builders.reference_job import SmallNode, server_template, small_node
from tests.builders.reference_servers import TOKEN

CHILD = [str(Path(__file__).parents[2] / "fakes" / "reference_child.py")]
WELL, DIES, HANGS = range(3)
DEADLINE_SECONDS = 90.0


@dataclass
class World:
    """A namespace with a node, and controllers' clients in it."""

    cluster: Cluster
    node: SmallNode
    store_url: str
    said: list[str] = field(default_factory=list)
    clients: list[ReferenceClient] = field(default_factory=list)

    def template(self, **env: str) -> str:
        return server_template(self.store_url, child=CHILD, **env)[0]

    def client(self, template: str, *, owner: str | None = None, **chosen: Any) -> ReferenceClient:
        parsed = ReferenceTemplate.parse(template, token=TOKEN)
        settings = {"wait_seconds": DEADLINE_SECONDS, "poll_seconds": 0.1, "token": TOKEN, **chosen}
        launcher = JobLauncher(
            ReferenceObjects(self.cluster, parsed, owner=owner), port=parsed.port, **settings
        )
        client = ReferenceClient(launcher=launcher, timeout_seconds=200.0)
        self.clients.append(client)
        return client

    async def load(self, client: ReferenceClient) -> None:
        await client.load_base("base", dtype="float32", on_waiting=self.said.append)

    async def jobs(self) -> list[dict[str, Any]]:
        return (await self.cluster.list(JOBS)).items

    async def no_jobs(self) -> bool:
        return not await self.jobs()

    async def forgotten(self) -> None:
        """As a controller that is killed: it says nothing to the cluster."""
        for client in self.clients:
            await client._drop()
        self.clients.clear()


@pytest.fixture
async def world(kube: KubeWorld, cluster: Cluster, tmp_path: Path) -> AsyncIterator[World]:
    def keep_log(pod: str, text: str) -> None:
        if kube.fake is not None:
            kube.fake.logs[kube.namespace, pod] = text

    makes_pods = kube.name == "mock"
    direct = await kube.connect_directly()
    async with small_node(direct, makes_pods=makes_pods, log=keep_log) as node:
        made = World(cluster, node, (tmp_path / "store").as_uri())
        yield made
        for client in made.clients:
            await client.close()


async def until(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await is_so():  # noqa: ASYNC110 - the cluster decides
            await asyncio.sleep(0.1)


async def ask(client: ReferenceClient, behaviour: int = WELL) -> str:
    return (await client.generate(None, [1], behaviour)).text


async def test_a_job_is_made_when_first_asked_and_deleted_when_closed(world: World) -> None:
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


async def test_a_controller_that_starts_again_finds_the_job_with_its_base(world: World) -> None:
    template = world.template()
    await world.load(world.client(template))
    await world.forgotten()

    after = world.client(template)

    assert await ask(after) == "base"  # nobody told it to load one
    assert len(world.node.started) == 1


async def test_a_newer_controller_takes_over_and_the_older_one_leaves_it_the_job(
    world: World,
) -> None:
    template = world.template()
    older, newer = world.client(template), world.client(template)
    await world.load(older)

    await world.load(newer)

    with pytest.raises(ReferenceFailed, match="another controller has taken"):
        await ask(older)
    await older.close()
    assert await ask(newer) == "base,base"  # both loaded it in the same process
    assert len(await world.jobs()) == 1


async def test_a_pod_that_dies_is_replaced_and_the_request_is_sent_again(world: World) -> None:
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
    world: World, kube: KubeWorld
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


async def test_a_job_that_gave_up_is_told_with_its_exit_code_and_log(
    world: World, kube: KubeWorld
) -> None:
    body = yaml.safe_load(world.template(FAILS_AT_START="yes"))
    body["spec"]["backoffLimit"] = 0

    with pytest.raises(ReferenceFailed) as caught:
        await world.load(world.client(yaml.safe_dump(body)))

    reason = caught.value.fields["reason"]
    assert "given up: BackoffLimitExceeded" in reason
    assert f"pod {world.node.started[0]} ended with exit code 1" in reason
    if kube.fake is not None:
        assert caught.value.fields["log_tail"] == "no GPU is visible"
    assert len(await world.jobs()) == 1  # for people to look at


async def test_a_job_that_has_ended_is_made_anew(world: World) -> None:
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


async def test_a_job_that_was_deleted_while_waited_for_is_made_anew(world: World) -> None:
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


async def test_a_job_of_another_template_is_not_used_but_removed(world: World) -> None:
    await world.load(world.client(world.template()))
    await world.forgotten()
    (old,) = await world.jobs()

    await world.load(world.client(world.template(LORAPLANE_REFERENCE_UNUSED_SECONDS="99")))

    assert old["metadata"]["name"] not in {job["metadata"]["name"] for job in await world.jobs()}
    assert len(world.node.started) == 2


async def test_a_pod_that_no_node_takes_is_waited_for_with_the_schedulers_words(
    world: World,
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


async def test_after_the_longest_wait_the_schedulers_words_are_the_reason(world: World) -> None:
    world.node.unschedulable = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    client = world.client(world.template(), wait_seconds=3.0)

    with pytest.raises(ReferenceFailed, match=r"within 3 s: no node takes pod .*nvidia\.com/gpu"):
        await world.load(client)

    await client.close()
    await until(world.no_jobs)


async def test_an_image_that_cannot_be_pulled_is_told_after_a_while(world: World) -> None:
    world.node.waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}

    with pytest.raises(ReferenceFailed, match="cannot start: ImagePullBackOff: Back-off pulling"):
        await world.load(world.client(world.template(), stuck_seconds=0.5))


async def test_a_pod_with_another_token_is_refused(world: World) -> None:
    client = world.client(world.template(LORAPLANE_REFERENCE_TOKEN="another"))

    with pytest.raises(ReferenceFailed, match="have different tokens"):
        await world.load(client)


async def test_a_controller_that_may_not_make_jobs_is_told_so(
    world: World, kube: KubeWorld, tmp_path: Path
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
        with pytest.raises(ReferenceFailed) as caught:
            await world.load(world.client(world.template()))
    finally:
        await world.cluster.close()

    assert "Kubernetes refused the reference's Job: 40" in caught.value.fields["reason"]


async def test_a_pod_that_a_quota_refuses_is_told_from_the_jobs_event(world: World) -> None:
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


async def test_an_api_server_that_is_away_for_a_while_is_waited_for(
    world: World, kube: KubeWorld
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


async def test_the_owner_takes_the_job_along(world: World, kube: KubeWorld) -> None:
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
    world: World, tmp_path: Path
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
