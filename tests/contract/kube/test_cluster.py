"""What the door to Kubernetes promises, on the fake API server and on a real one."""

from __future__ import annotations

import asyncio

import pytest

from serving.kube.cluster import CONFIG_MAPS, LEASES, PODS, Change, Cluster, Kind
from serving.kube.errors import (
    KubeAlreadyExists,
    KubeConflict,
    KubeExpired,
    KubeInvalid,
    KubeNotFound,
    KubeUnreachable,
)
from tests.builders.kube_worlds import KubeWorld

UNKNOWN = Kind("loraplane.dev", "v9", "unheards", "Unheard")


def config(name: str, *, labels: dict[str, str] | None = None, **data: str) -> dict[str, object]:
    return {"metadata": {"name": name, "labels": labels or {}}, "data": data}


async def test_what_was_created_can_be_read(cluster: Cluster) -> None:
    made = await cluster.create(CONFIG_MAPS, config("a", color="red"))

    found = await cluster.get(CONFIG_MAPS, "a")

    assert found == made
    assert found["data"] == {"color": "red"}
    assert found["metadata"]["namespace"] == cluster.namespace


async def test_a_name_is_taken_once(cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, config("a", color="red"))

    with pytest.raises(KubeAlreadyExists):
        await cluster.create(CONFIG_MAPS, config("a", color="blue"))

    assert (await cluster.get(CONFIG_MAPS, "a"))["data"] == {"color": "red"}


async def test_what_is_absent_is_not_found(cluster: Cluster) -> None:
    with pytest.raises(KubeNotFound):
        await cluster.get(CONFIG_MAPS, "a")
    with pytest.raises(KubeNotFound):
        await cluster.replace(CONFIG_MAPS, config("a"))
    with pytest.raises(KubeNotFound):
        await cluster.patch(CONFIG_MAPS, "a", {"data": {"color": "red"}})
    with pytest.raises(KubeNotFound):
        await cluster.list(UNKNOWN)


async def test_of_two_who_replace_the_same_object_the_second_is_told(cluster: Cluster) -> None:
    first = await cluster.create(CONFIG_MAPS, config("a", color="red"))
    await cluster.replace(CONFIG_MAPS, {**first, "data": {"color": "blue"}})

    with pytest.raises(KubeConflict) as caught:
        await cluster.replace(CONFIG_MAPS, {**first, "data": {"color": "green"}})

    assert not isinstance(caught.value, KubeAlreadyExists)
    assert (await cluster.get(CONFIG_MAPS, "a"))["data"] == {"color": "blue"}


async def test_a_patch_leaves_what_it_does_not_name(cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, config("a", color="red", size="big", kept="yes"))

    patched = await cluster.patch(CONFIG_MAPS, "a", {"data": {"color": "blue", "size": None}})

    assert patched["data"] == {"color": "blue", "kept": "yes"}


async def test_a_patch_that_names_an_old_version_is_refused(cluster: Cluster) -> None:
    old = await cluster.create(CONFIG_MAPS, config("a", color="red"))
    await cluster.patch(CONFIG_MAPS, "a", {"data": {"color": "blue"}})
    version = {"resourceVersion": old["metadata"]["resourceVersion"]}

    with pytest.raises(KubeConflict):
        await cluster.patch(CONFIG_MAPS, "a", {"metadata": version, "data": {"color": "green"}})


async def test_a_status_is_written_apart_from_the_rest(cluster: Cluster) -> None:
    container = {"name": "c", "image": "registry.example/c:1"}
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container]}}
    made = await cluster.create(PODS, {**pod, "status": {"phase": "Failed"}})
    assert made.get("status", {}).get("phase") != "Failed"

    await cluster.patch_status(PODS, "p", {"phase": "Running"})
    labelled = await cluster.patch(
        PODS, "p", {"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Failed"}}
    )

    assert labelled["status"]["phase"] == "Running"
    old = made["metadata"]["resourceVersion"]
    with pytest.raises(KubeConflict):
        await cluster.patch_status(PODS, "p", {"phase": "Failed"}, resource_version=old)


async def test_a_thing_without_a_name_is_invalid(cluster: Cluster) -> None:
    with pytest.raises(KubeInvalid):
        await cluster.create(CONFIG_MAPS, {"metadata": {}})


async def test_deleting_what_is_gone_is_fine(cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, config("a"))

    await cluster.delete(CONFIG_MAPS, "a")
    await cluster.delete(CONFIG_MAPS, "a")

    with pytest.raises(KubeNotFound):
        await cluster.get(CONFIG_MAPS, "a")


async def test_the_successor_of_a_name_is_not_deleted_by_mistake(cluster: Cluster) -> None:
    old = await cluster.create(CONFIG_MAPS, config("a", life="first"))
    await cluster.delete(CONFIG_MAPS, "a")
    await cluster.create(CONFIG_MAPS, config("a", life="second"))

    await cluster.delete(CONFIG_MAPS, "a", uid=old["metadata"]["uid"])

    assert (await cluster.get(CONFIG_MAPS, "a"))["data"] == {"life": "second"}


async def test_a_list_has_what_the_labels_select_over_several_pages(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.kube.cluster._PAGE", 2)
    for name in "abcde":
        await cluster.create(CONFIG_MAPS, config(name, labels={"app": "mine"}))
    await cluster.create(CONFIG_MAPS, config("z", labels={"app": "other"}))

    listing = await cluster.list(CONFIG_MAPS, labels="app=mine")

    assert [item["metadata"]["name"] for item in listing.items] == list("abcde")


async def test_a_watch_tells_each_change_once_and_in_order(cluster: Cluster) -> None:
    start = (await cluster.list(CONFIG_MAPS)).resource_version
    await cluster.create(CONFIG_MAPS, config("a", labels={"app": "mine"}))
    await cluster.create(CONFIG_MAPS, config("b"))
    await cluster.patch(CONFIG_MAPS, "a", {"data": {"color": "blue"}})
    await cluster.delete(CONFIG_MAPS, "a")

    told = await watched(cluster, start, labels="app=mine")

    assert [(item.type, item.object["metadata"]["name"]) for item in told] == [
        ("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"),
    ]  # fmt: skip
    assert await watched(cluster, told[1].object["metadata"]["resourceVersion"]) == [
        Change("DELETED", told[2].object)
    ]


async def test_a_watch_from_a_forgotten_past_says_so(kube: KubeWorld, cluster: Cluster) -> None:
    start = (await cluster.list(CONFIG_MAPS)).resource_version
    await cluster.create(CONFIG_MAPS, config("a"))
    await kube.forget_history()

    with pytest.raises(KubeExpired):
        await watched(cluster, start)


async def test_a_server_that_is_away_is_unreachable(kube: KubeWorld, cluster: Cluster) -> None:
    await cluster.create(CONFIG_MAPS, config("a"))
    kube.line.cut()

    with pytest.raises(KubeUnreachable):
        await cluster.get(CONFIG_MAPS, "a")
    kube.line.mend()

    assert (await cluster.get(CONFIG_MAPS, "a"))["metadata"]["name"] == "a"


async def test_a_server_that_says_nothing_does_not_hang_us(
    kube: KubeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.kube.connection._WATCH_GRACE_SECONDS", 0.5)
    cluster = await kube.connect(request_seconds=0.5)
    start = (await cluster.list(LEASES)).resource_version
    kube.line.silence()

    with pytest.raises(KubeUnreachable):
        await cluster.get(LEASES, "a")
    with pytest.raises(KubeUnreachable):
        await asyncio.wait_for(watched(cluster, start, kind=LEASES), timeout=30)


async def watched(
    cluster: Cluster, start: str, *, labels: str | None = None, kind: Kind = CONFIG_MAPS
) -> list[Change]:
    """What a watch of a second tells, without bookmarks."""
    changes = cluster.watch(kind, resource_version=start, labels=labels, timeout_seconds=1)
    return [change async for change in changes if change.type != "BOOKMARK"]
