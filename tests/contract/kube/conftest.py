"""Each test of this folder runs on a fake API server, and on a real one where there is one."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serving.kube.cluster import Cluster
from tests.builders.api_server import WITHOUT_ASSETS, ApiServer, find_assets, run_api_server
from tests.builders.kube_worlds import KubeWorld, envtest_world, mock_world


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """The real one, started once (about a second); with controllers, without a kubelet."""
    if find_assets() is None:
        pytest.skip(WITHOUT_ASSETS)
    with run_api_server(controller_manager=True) as server:
        yield server


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
