"""Two whole controllers in a cluster over one registry: one dies in the middle, nothing is lost.

Nor is anything done twice, also when the one that is gone comes back and does not know it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from adapters.manifest import manifest_of_folder
from adapters.store import ArtifactStore
from bench.fixtures.base_model import tiny_base
from serving.controller.lifecycle import State
from serving.controller.registry.repository import Repository
from serving.controller.registry.tables import AuditRow, SuiteRow
from serving.controller.registry.versions import Upload
from serving.kube.cluster import LEASES, Cluster
from serving.settings import KubernetesSettings
from tests.builders.api_server import WITHOUT_ASSETS, ApiServer, find_assets, run_api_server
from tests.builders.controller import SECRET, settings_in
from tests.builders.controller_replicas import ACCOUNT, LEASE, Replica, ReplicaSet, let_lead
from tests.builders.gate_world import SUITE, tiny_model
from tests.builders.postgres import empty_database, find_postgres, run_postgres
from tests.builders.random_adapters import random_adapter
from tests.fakes.api_server import NAMESPACES
from tests.fakes.engine import FakeEngine
from tests.fakes.http_link import HttpLink
from tests.fakes.served import served

pytestmark = [pytest.mark.slow, pytest.mark.postgres]

N_VERSIONS = 4
DEADLINE_SECONDS = 300.0
LEASE_SECONDS = 15.0
EXPECTED = [
    ("uploading", "validating"),
    ("validating", "evaluating"),
    ("evaluating", "passed"),
    ("passed", "staging"),
    ("staging", "live"),
]


@pytest.fixture(scope="module")
def postgres_url() -> Iterator[str]:
    if find_postgres() is None:
        pytest.skip("no PostgreSQL server binaries on this machine")
    with run_postgres() as url:
        yield url


@pytest.fixture(scope="module")
def api_server() -> Iterator[ApiServer]:
    if find_assets() is None:
        pytest.skip(WITHOUT_ASSETS)
    with run_api_server() as server:
        yield server


@dataclass
class Fleet:
    """A namespace, a registry, a store, and one engine that talks to whom it is told."""

    replicas: ReplicaSet
    admin: Cluster
    registry: Repository
    store: ArtifactStore
    folder: Path

    async def push(self, number: int) -> str:
        """As any replica's API acknowledges an upload."""
        adapter = f"adapter-{number}"
        folder = self.folder / adapter
        await asyncio.to_thread(random_adapter, tiny_base(), folder, seed=number)
        manifest = manifest_of_folder(folder)
        await self.store.put(manifest, folder)
        upload = Upload(
            tenant_id="acme", adapter=adapter, digest=manifest.digest,
            files=manifest.to_json()["files"], created_by="ann", promote_mode="auto",
            suite_id="acme/probe@1",
        )  # fmt: skip
        row, _ = await self.registry.versions.acknowledge(upload)
        return row.id

    async def states(self) -> Counter[str]:
        return Counter(row.state for row in await self.registry.versions.all())

    async def moves(self, version: str) -> list[tuple[str | None, str | None]]:
        rows: list[AuditRow] = await self.registry.audit.latest(subject=version)
        return [(row.from_state, row.to_state) for row in reversed(rows) if row.to_state]

    async def lease(self) -> dict[str, str]:
        return dict((await self.admin.get(LEASES, LEASE))["spec"])


@pytest.fixture
async def fleet(api_server: ApiServer, postgres_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    namespace = f"fleet-{uuid.uuid4().hex[:8]}"
    admin = await Cluster.connect(namespace=namespace, kubeconfig=api_server.kubeconfig())
    await admin.create(NAMESPACES, {"metadata": {"name": namespace}})
    await let_lead(admin)
    database, store = await empty_database(postgres_url), (tmp_path / "artifacts").as_uri()
    settings = settings_in(
        tmp_path, database_url=database, store_url=store, model=str(tiny_base()),
        gate_min_cases=4, gate_repeats=2, engine_timeout_seconds=60.0,
    )  # fmt: skip
    kubernetes = KubernetesSettings(
        kubernetes=True, namespace=namespace, lease_name=LEASE, lora_adapters=False,
        kubeconfig=api_server.service_account(namespace, ACCOUNT),
    )  # fmt: skip
    registry = Repository(database)
    await registry.prepare()
    await registry.tenants.create("acme", display_name="Acme", actor="root")
    suite = SuiteRow(
        tenant_id="acme", name="probe", digest="d", n_cases=4, content=SUITE, contamination=None
    )
    await registry.tenants.put_suite(suite, actor="ann")
    replicas = ReplicaSet(tmp_path, settings, kubernetes)
    yield Fleet(replicas, admin, registry, ArtifactStore.from_url(store), tmp_path)
    await registry.close()
    await admin.close()


@contextlib.asynccontextmanager
async def an_engine(replica: Replica) -> AsyncIterator[FakeEngine]:
    """An engine that reports to this replica."""
    link = HttpLink(url=replica.url, cluster_secret=SECRET)
    engine = FakeEngine(model=tiny_model(), link=link, cluster_secret=SECRET)
    async with served(engine.app) as url:
        engine.url = url
        running = asyncio.create_task(engine.run())
        try:
            yield engine
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await link.aclose()


@contextlib.asynccontextmanager
async def two_replicas(fleet: Fleet) -> AsyncIterator[tuple[Replica, Replica]]:
    """The leader, and one that stands by with an engine that talks to it."""
    with fleet.replicas.start("first") as first, fleet.replicas.start("second") as second:
        await first.wait_ready()
        await second.wait_ready()
        async with asyncio.timeout(DEADLINE_SECONDS):
            leads = [False, False]
            while not any(leads):
                leads = [await first.leads(), await second.leads()]
        assert sum(leads) == 1
        leader, other = (first, second) if leads[0] else (second, first)
        async with an_engine(other):
            yield leader, other


async def until_in_the_middle(fleet: Fleet) -> None:
    """Until something has come to its end and something is being evaluated by somebody."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            rows = await fleet.registry.versions.all()
            is_live = any(row.state == State.LIVE for row in rows)
            is_busy = any(row.state == State.EVALUATING and row.lock_token for row in rows)
            if is_live and is_busy:
                return
            await asyncio.sleep(0.05)


async def until_all_live(fleet: Fleet, n_versions: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (states := await fleet.states()) != {"live": n_versions}:
            assert not states.keys() & {"failed", "rejected", "inconclusive"}, states
            await asyncio.sleep(0.2)


def seconds_between(earlier: str, later: str) -> float:
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


async def test_one_that_is_killed_is_followed_and_no_step_is_done_twice(fleet: Fleet) -> None:
    async with two_replicas(fleet) as (leader, other):
        assert await leader.is_ready()
        assert await other.is_ready()
        versions = [await fleet.push(n) for n in range(N_VERSIONS)]
        await until_in_the_middle(fleet)

        leader.kill()
        last = (await fleet.lease())["renewTime"]
        await until_all_live(fleet, N_VERSIONS)

        lease = await fleet.lease()
        assert lease["holderIdentity"].startswith(f"{other.name}_")
        assert await other.leads()
        # Not before the lease was over, and soon after: two looks, with room for a busy machine.
        assert LEASE_SECONDS - 1 < seconds_between(last, lease["acquireTime"]) < LEASE_SECONDS * 2
        for version in versions:
            assert await fleet.moves(version) == EXPECTED, version
        other.stop()
        assert (await fleet.lease())["holderIdentity"] == ""


async def test_one_that_was_frozen_wakes_up_and_writes_nothing(fleet: Fleet) -> None:
    async with two_replicas(fleet) as (leader, other):
        versions = [await fleet.push(n) for n in range(N_VERSIONS)]
        await until_in_the_middle(fleet)

        leader.freeze()
        await until_all_live(fleet, N_VERSIONS)
        term = await fleet.registry.leadership.term()
        leader.thaw()
        versions.append(await fleet.push(N_VERSIONS))
        await until_all_live(fleet, N_VERSIONS + 1)

        assert await other.leads()
        assert not await leader.leads()
        assert await leader.is_ready()
        assert await fleet.registry.leadership.term() == term
        for version in versions:
            assert await fleet.moves(version) == EXPECTED, version
