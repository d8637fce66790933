"""One namespace of a fake or a real API server, with what a test needs to trouble it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from serving.kube.cluster import Cluster, Kind
from tests.builders.api_server import ApiServer, kubeconfig_text
from tests.builders.broken_line import BrokenLine, broken_line
from tests.fakes.api_server import NAMESPACES, FakeApiServer, run_fake_api_server


@dataclass
class KubeWorld:
    """A namespace, and the line over which its clients reach the API server."""

    name: str
    """`mock` or `envtest`."""
    namespace: str
    kubeconfig: Path
    """An administrator's, over the line."""
    direct_kubeconfig: Path
    """The same, not over the line."""
    line: BrokenLine
    forget_history: Callable[[], Awaitable[None]]
    """Old resource versions of config maps are too old from now on."""
    fake: FakeApiServer | None
    server: ApiServer | None
    _clusters: list[Cluster] = field(default_factory=list)

    async def connect(self, *, request_seconds: float = 10.0) -> Cluster:
        """Another client over the line; closed at the end."""
        return await self._connect(self.kubeconfig, request_seconds)

    async def connect_directly(self) -> Cluster:
        """A client that the line's troubles do not reach; closed at the end."""
        return await self._connect(self.direct_kubeconfig, 10.0)

    async def _connect(self, kubeconfig: Path, request_seconds: float) -> Cluster:
        cluster = await Cluster.connect(
            namespace=self.namespace, kubeconfig=kubeconfig, request_seconds=request_seconds
        )
        self._clusters.append(cluster)
        return cluster

    async def close(self) -> None:
        """Close every client."""
        for cluster in self._clusters:
            await cluster.close()


@contextlib.asynccontextmanager
async def mock_world(folder: Path, namespace: str) -> AsyncIterator[KubeWorld]:
    """On the fake server of this process."""
    async with (
        run_fake_api_server() as fake,
        broken_line("127.0.0.1", fake.port) as line,
    ):
        kubeconfig, direct = folder / "kubeconfig-mock", folder / "kubeconfig-mock-direct"
        kubeconfig.write_text(kubeconfig_text(f"http://127.0.0.1:{line.port}", {"token": "mock"}))
        direct.write_text(kubeconfig_text(fake.url, {"token": "mock"}))
        forget = fake.objects.forget_history
        world = KubeWorld("mock", namespace, kubeconfig, direct, line, forget, fake, None)
        async with contextlib.aclosing(_Closing(world)):
            await (await world.connect_directly()).create(
                NAMESPACES, {"metadata": {"name": namespace}}
            )
            yield world


@contextlib.asynccontextmanager
async def envtest_world(
    server: ApiServer, folder: Path, namespace: str
) -> AsyncIterator[KubeWorld]:
    """On a real server; the namespace is asked to go at the end."""
    port = urlsplit(server.url).port or 0
    async with broken_line("127.0.0.1", port) as line:
        kubeconfig = folder / "kubeconfig-envtest"
        url = f"https://127.0.0.1:{line.port}"
        kubeconfig.write_text(server.kubeconfig_text(url, "admin", ("system:masters",)))

        async def forget_history() -> None:
            # A revision can only be forgotten once there is a later one.
            cluster = await world.connect_directly()
            for _ in range(2):
                made = await cluster.create(_SCRATCH, {"metadata": {"generateName": "scratch-"}})
                await cluster.delete(_SCRATCH, made["metadata"]["name"])
            server.compact()

        world = KubeWorld(
            "envtest",
            namespace,
            kubeconfig,
            server.kubeconfig(),
            line,
            forget_history,
            None,
            server,
        )
        async with contextlib.aclosing(_Closing(world)):
            admin = await world.connect_directly()
            await admin.create(NAMESPACES, {"metadata": {"name": namespace}})
            yield world
            await admin.delete(NAMESPACES, namespace)


_SCRATCH = Kind("", "v1", "secrets", "Secret")


class _Closing:
    def __init__(self, world: KubeWorld) -> None:
        self._world = world

    async def aclose(self) -> None:
        await self._world.close()
