"""Each test of this folder runs on a fake API server, and on a real one where there is one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serving.kube.cluster import Cluster
from tests.builders.api_server import WITHOUT_ASSETS, ApiServer, find_assets, run_api_server
from tests.builders.helm_release import Release
from tests.builders.kube_worlds import KubeWorld, envtest_world, mock_world


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """The real one, started once (about a second); with controllers, without a kubelet."""
    if find_assets() is None:
        pytest.skip(WITHOUT_ASSETS)
    with run_api_server(controller_manager=True) as server:
        yield server


@pytest.fixture
def release(api_server: ApiServer) -> Iterator[Release]:
    """A name for a release of the chart, in a namespace of its own; nothing is installed yet."""
    made = Release(api_server.kubeconfig(), f"helm-{uuid.uuid4().hex[:8]}")
    made.kubectl("create", "namespace", made.namespace)
    yield made
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")


@pytest.fixture(params=["mock", "envtest"])
async def kube(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KubeWorld]:
    """An empty namespace behind a line that can break."""
    namespace = f"test-{uuid.uuid4().hex[:10]}"
    if request.param == "mock":
        made = mock_world(tmp_path, namespace)
    else:
        made = envtest_world(request.getfixturevalue("api_server"), tmp_path, namespace)
    async with made as world:
        yield world


@pytest.fixture
async def cluster(kube: KubeWorld) -> Cluster:
    """The door to that namespace."""
    return await kube.connect()
