"""A namespace with a small node, and controllers' clients of its reference Job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.parity.reference_client import ReferenceClient
from serving.kube.cluster import JOBS, Cluster
from serving.kube.reference_job import JobLauncher
from serving.kube.reference_objects import ReferenceObjects
from serving.kube.reference_template import ReferenceTemplate
from tests.builders.kube_worlds import KubeWorld
from tests.builders.reference_job import SmallNode, server_template, small_node
from tests.builders.reference_servers import TOKEN

CHILD = [str(Path(__file__).parents[1] / "fakes" / "reference_child.py")]
WELL, DIES, HANGS = range(3)
DEADLINE_SECONDS = 90.0


@dataclass
class ReferenceWorld:
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


@contextlib.asynccontextmanager
async def reference_world(
    kube: KubeWorld, cluster: Cluster, folder: Path
) -> AsyncIterator[ReferenceWorld]:
    """On the fake API server the node makes the Jobs' pods, too."""

    def keep_log(pod: str, text: str) -> None:
        if kube.fake is not None:
            kube.fake.logs[kube.namespace, pod] = text

    makes_pods = kube.name == "mock"
    direct = await kube.connect_directly()
    async with small_node(direct, makes_pods=makes_pods, log=keep_log) as node:
        made = ReferenceWorld(cluster, node, (folder / "store").as_uri())
        yield made
        for client in made.clients:
            await client.close()


async def until(is_so: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await is_so():  # noqa: ASYNC110 - the cluster decides
            await asyncio.sleep(0.1)


async def ask(client: ReferenceClient, behaviour: int = WELL) -> str:
    return (await client.generate(None, [1], behaviour)).text
