"""A mirror shows what is in the cluster, through every trouble of the way to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from serving.kube.cluster import CONFIG_MAPS, Cluster
from serving.kube.errors import KubeError, KubeExpired, KubeTooMuch, KubeUnreachable
from serving.kube.mirror import Mirror
from tests.builders.kube_worlds import KubeWorld

DEADLINE_SECONDS = 60.0


class Watched:
    """A mirror that runs, and what it complained of."""

    def __init__(self, cluster: Cluster) -> None:
        self.failures: list[KubeError] = []
        self.mirror = Mirror(
            cluster, CONFIG_MAPS, "app=mine", watch_seconds=2, on_failure=self.failures.append
        )

    def names(self) -> list[str]:
        return sorted(self.mirror.objects)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not is_so():
                seen = self.mirror.n_changes
                if not is_so():
                    await self.mirror.wait_change(0.1, seen=seen)


@pytest.fixture
async def watched(kube: KubeWorld) -> AsyncIterator[Watched]:
    """Its client has the line that breaks; `cluster` of the tests has a way of its own."""
    made = Watched(await kube.connect(request_seconds=2.0))
    running = asyncio.create_task(made.mirror.run())
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def direct(kube: KubeWorld) -> Cluster:
    """A client that does not use the line."""
    return await kube.connect_directly()


async def add(cluster: Cluster, name: str, app: str = "mine") -> None:
    body = {"metadata": {"name": name, "labels": {"app": app}}, "data": {"n": "0"}}
    await cluster.create(CONFIG_MAPS, body)


async def test_it_is_synced_with_the_first_whole_list(direct: Cluster, watched: Watched) -> None:
    assert not watched.mirror.is_synced
    await watched.until(lambda: watched.mirror.is_synced)

    assert watched.names() == []
    assert watched.failures == []


async def test_it_follows_every_change(direct: Cluster, watched: Watched) -> None:
    await add(direct, "a")
    await add(direct, "b")
    await add(direct, "c", app="other")
    await watched.until(lambda: watched.names() == ["a", "b"])

    await direct.delete(CONFIG_MAPS, "a")
    await direct.patch(CONFIG_MAPS, "b", {"data": {"n": "1"}})

    await watched.until(
        lambda: watched.names() == ["b"] and watched.mirror.objects["b"]["data"] == {"n": "1"}
    )


async def test_what_no_longer_has_the_labels_leaves(direct: Cluster, watched: Watched) -> None:
    await add(direct, "a")
    await watched.until(lambda: watched.names() == ["a"])

    await direct.patch(CONFIG_MAPS, "a", {"metadata": {"labels": {"app": "other"}}})

    await watched.until(lambda: watched.names() == [])


async def test_a_dropped_watch_is_resumed_without_a_gap(
    kube: KubeWorld, direct: Cluster, watched: Watched
) -> None:
    await add(direct, "a")
    await watched.until(lambda: watched.names() == ["a"])

    for name in ("b", "c", "d"):
        kube.line.drop()
        await add(direct, name)
        await watched.until(lambda expected=name: expected in watched.names())

    assert watched.names() == ["a", "b", "c", "d"]


async def test_a_server_that_is_away_empties_nothing(
    kube: KubeWorld, direct: Cluster, watched: Watched
) -> None:
    await add(direct, "a")
    await watched.until(lambda: watched.names() == ["a"])

    kube.line.cut()
    await direct.delete(CONFIG_MAPS, "a")
    await add(direct, "b")
    await watched.until(lambda: len(watched.failures) >= 2)

    assert watched.names() == ["a"]
    assert {type(failure) for failure in watched.failures} == {KubeUnreachable}
    kube.line.mend()
    await watched.until(lambda: watched.names() == ["b"])


async def test_it_lists_again_when_the_past_is_forgotten(
    kube: KubeWorld, direct: Cluster, watched: Watched
) -> None:
    await add(direct, "a")
    await add(direct, "b")
    await watched.until(lambda: watched.names() == ["a", "b"])

    kube.line.cut()
    await direct.delete(CONFIG_MAPS, "a")
    await add(direct, "c")
    await kube.forget_history()
    kube.line.mend()

    await watched.until(lambda: watched.names() == ["b", "c"])
    assert KubeExpired in {type(failure) for failure in watched.failures}


async def test_more_than_it_may_hold_is_said_and_not_held(
    direct: Cluster, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.kube.mirror._MAX_OBJECTS", 2)
    monkeypatch.setattr("serving.kube.cluster._MAX_OBJECTS", 2)
    await watched.until(lambda: watched.mirror.is_synced)

    for name in ("a", "b", "c", "d", "e"):
        await add(direct, name)

    await watched.until(lambda: KubeTooMuch in {type(item) for item in watched.failures})
    assert len(watched.mirror.objects) <= 2


async def test_who_waits_is_told_of_a_change_that_came_before(
    direct: Cluster, watched: Watched
) -> None:
    await watched.until(lambda: watched.mirror.is_synced)
    seen = watched.mirror.n_changes
    await add(direct, "a")
    await watched.until(lambda: watched.names() == ["a"])

    assert await watched.mirror.wait_change(5, seen=seen)
    assert not await watched.mirror.wait_change(0.05)
