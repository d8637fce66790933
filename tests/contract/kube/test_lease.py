"""One leader at a time by a Lease, through kills, releases, and an API server that is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from serving.controller.errors import Deposed
from serving.controller.registry.repository import Repository
from serving.kube.cluster import LEASES, Cluster
from serving.kube.errors import KubeNotFound
from serving.kube.lease import LeaseLeadership, LeaseTimes
from tests.builders.kube_worlds import KubeWorld

NAME = "controller"
TIMES = LeaseTimes(duration=3.0, deadline=2.0, retry=0.3)
DEADLINE_SECONDS = 60.0


@dataclass
class Replica:
    """One candidate, and what it did while it led."""

    leadership: LeaseLeadership
    registry: Repository
    terms: list[int] = field(default_factory=list)
    ended: int = 0
    task: asyncio.Task[None] | None = None

    async def work(self, term: int | None) -> None:
        assert term is not None
        with contextlib.suppress(Deposed):
            await self.registry.leadership.take(term)
            self.terms.append(term)
            try:
                await asyncio.Event().wait()
            finally:
                self.ended += 1

    @property
    def leads(self) -> bool:
        return self.leadership.is_leading and len(self.terms) > self.ended

    def start(self) -> None:
        self.task = asyncio.create_task(self.leadership.lead(self.work))

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)


@dataclass
class Replicas:
    """Candidates for one Lease over one registry."""

    kube: KubeWorld
    registry: Repository
    all: list[Replica] = field(default_factory=list)

    def add(self, cluster: Cluster, *, times: LeaseTimes = TIMES) -> Replica:
        leadership = LeaseLeadership(
            cluster,
            name=NAME,
            identity=f"replica-{len(self.all)}",
            floor=self.registry.leadership.term,
            times=times,
        )
        made = Replica(leadership, self.registry)
        self.all.append(made)
        made.start()
        return made


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Repository]:
    made = Repository(f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}")
    await made.prepare()
    yield made
    await made.close()


@pytest.fixture
async def replicas(kube: KubeWorld, registry: Repository) -> AsyncIterator[Replicas]:
    made = Replicas(kube, registry)
    yield made
    for replica in made.all:
        await replica.stop()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not is_so():  # noqa: ASYNC110 - polls what no event tells
            await asyncio.sleep(0.02)


async def test_of_several_candidates_exactly_one_leads(
    replicas: Replicas, kube: KubeWorld, cluster: Cluster
) -> None:
    candidates = [replicas.add(await kube.connect()) for _ in range(3)]
    await until(lambda: any(replica.leads for replica in candidates))

    # Long enough for each of the others to look several times.
    await asyncio.sleep(TIMES.retry * 5)

    leaders = [replica for replica in candidates if replica.leads]
    assert len(leaders) == 1
    spec = (await cluster.get(LEASES, NAME))["spec"]
    assert spec["holderIdentity"] == f"replica-{candidates.index(leaders[0])}"
    assert spec["leaseTransitions"] == leaders[0].terms[0]
    assert sum(len(replica.terms) for replica in candidates) == 1


async def test_a_lead_lasts_longer_than_the_lease(replicas: Replicas, kube: KubeWorld) -> None:
    first = replicas.add(await kube.connect())
    await until(lambda: first.leads)
    second = replicas.add(await kube.connect())

    await asyncio.sleep(TIMES.duration * 1.5)

    assert (first.leads, second.leads) == (True, False)
    assert len(first.terms) == 1


async def test_who_stops_in_good_order_is_followed_at_once(
    replicas: Replicas, kube: KubeWorld, cluster: Cluster
) -> None:
    # With a lease so long that the test would fail if it had to run out.
    times = LeaseTimes(duration=600.0, deadline=400.0, retry=0.3)
    first = replicas.add(await kube.connect(), times=times)
    await until(lambda: first.leads)
    second = replicas.add(await kube.connect(), times=times)

    await first.stop()
    assert (first.ended, first.leads) == (1, False)
    await until(lambda: second.leads)

    assert second.terms[0] > first.terms[0]


async def test_who_dies_is_followed_when_its_lease_is_over(
    replicas: Replicas, kube: KubeWorld
) -> None:
    dying = await kube.connect()
    first = replicas.add(dying)
    await until(lambda: first.leads)
    second = replicas.add(await kube.connect_directly())
    before = (await second.leadership._cluster.get(LEASES, NAME))["spec"]["holderIdentity"]

    # Nothing that it sends arrives any more, and nothing tells anybody.
    kube.line.silence()
    await until(lambda: second.leads)

    assert before == "replica-0"
    assert second.terms[0] > first.terms[0]


async def test_a_leader_without_the_api_server_gives_up_before_its_lease_can_be_taken(
    replicas: Replicas, kube: KubeWorld
) -> None:
    first = replicas.add(await kube.connect(request_seconds=1.0))
    await until(lambda: first.leads)
    second = replicas.add(await kube.connect_directly())
    both: list[float] = []

    kube.line.cut()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not second.leads:
            if first.leads and second.leadership.is_leading:
                both.append(asyncio.get_running_loop().time())
            await asyncio.sleep(0.005)

    assert both == []
    assert (first.ended, first.leads) == (1, False)


async def test_it_leads_again_when_the_api_server_is_back(
    replicas: Replicas, kube: KubeWorld
) -> None:
    only = replicas.add(await kube.connect(request_seconds=1.0))
    await until(lambda: only.leads)

    kube.line.cut()
    await until(lambda: only.ended == 1)
    kube.line.mend()
    await until(lambda: only.leads)

    assert only.terms[1] > only.terms[0]


async def test_a_deposed_leaders_writes_are_refused(
    replicas: Replicas, kube: KubeWorld, registry: Repository
) -> None:
    first = replicas.add(await kube.connect())
    await until(lambda: first.leads)
    old = registry.under(first.terms[0])
    await old.tenants.create("acme", display_name="x", actor="first")
    second = replicas.add(await kube.connect_directly())

    kube.line.silence()
    await until(lambda: second.leads)

    with pytest.raises(Deposed):
        await old.tenants.create("later", display_name="x", actor="first")
    await registry.under(second.terms[0]).tenants.create("new", display_name="x", actor="second")
    assert {row.id for row in await registry.tenants.all()} == {"acme", "new"}


async def test_terms_grow_although_the_lease_was_deleted(
    replicas: Replicas, kube: KubeWorld, cluster: Cluster, registry: Repository
) -> None:
    await registry.leadership.take(41)
    only = replicas.add(await kube.connect())
    await until(lambda: only.leads)
    assert only.terms == [42]

    await cluster.delete(LEASES, NAME)
    await until(lambda: len(only.terms) == 2 and only.leads)

    assert only.terms == [42, 43]
    assert (await cluster.get(LEASES, NAME))["spec"]["leaseTransitions"] == 43


async def test_a_label_on_the_lease_costs_nobody_the_lead(
    replicas: Replicas, kube: KubeWorld, cluster: Cluster
) -> None:
    only = replicas.add(await kube.connect())
    await until(lambda: only.leads)

    for number in range(4):
        await cluster.patch(LEASES, NAME, {"metadata": {"labels": {"n": str(number)}}})
        await asyncio.sleep(TIMES.retry)
    await asyncio.sleep(TIMES.duration)

    assert only.leads
    assert len(only.terms) == 1
    assert (await cluster.get(LEASES, NAME))["metadata"]["labels"] == {"n": "3"}


async def test_without_the_registry_nobody_takes_the_lease(
    kube: KubeWorld, cluster: Cluster, tmp_path: Path
) -> None:
    # No schema: it answers as a registry that is away does.
    empty = Repository(f"sqlite+aiosqlite:///{tmp_path / 'empty.sqlite'}")
    failures: list[None] = []
    leadership = LeaseLeadership(
        cluster, name=NAME, identity="a", floor=empty.leadership.term, times=TIMES,
        on_failure=lambda: failures.append(None),
    )  # fmt: skip
    made = Replica(leadership, empty)
    made.start()

    await until(lambda: len(failures) >= 2)
    await made.stop()

    assert made.terms == []
    with pytest.raises(KubeNotFound):
        await cluster.get(LEASES, NAME)
    await empty.close()


async def test_work_that_ends_since_the_lease_was_lost_knows_and_the_rest_does_not(
    kube: KubeWorld, registry: Repository
) -> None:
    held: list[bool] = []
    leadership = LeaseLeadership(
        await kube.connect(), name=NAME, identity="a", floor=registry.leadership.term, times=TIMES
    )

    async def work(term: int | None) -> None:
        held.append(leadership.is_held)
        try:
            await asyncio.Event().wait()
        finally:
            held.append(leadership.is_held)

    assert not leadership.is_held
    task = asyncio.create_task(leadership.lead(work))
    await until(lambda: len(held) == 1)
    kube.line.cut()
    await until(lambda: len(held) == 2)
    kube.line.mend()
    await until(lambda: len(held) == 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert held == [True, False, True, True]  # an orderly end is under the Lease still
    assert not leadership.is_held


async def test_work_that_fails_is_begun_again_with_a_new_term(
    kube: KubeWorld, registry: Repository
) -> None:
    terms: list[int | None] = []

    async def work(term: int | None) -> None:
        terms.append(term)
        raise KeyError("a bug")

    leadership = LeaseLeadership(
        await kube.connect(), name=NAME, identity="a", floor=registry.leadership.term, times=TIMES
    )
    task = asyncio.create_task(leadership.lead(work))
    await until(lambda: len(terms) >= 3)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert terms == sorted(set(terms), key=lambda term: term or 0)
