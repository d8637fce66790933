"""Events are written so that a real API server takes them, and never disturb anybody."""

from __future__ import annotations

import pytest

from serving.kube.cluster import CONFIG_MAPS, Cluster
from serving.kube.events import SERIES_SECONDS, EventRecorder, Happening
from serving.kube.kinds import WRITTEN_EVENTS, Json
from tests.builders.kube_worlds import KubeWorld
from tests.builders.registry import Clock


@pytest.fixture
async def made(cluster: Cluster) -> Json:
    return await cluster.create(CONFIG_MAPS, {"metadata": {"name": "something"}})


async def told(cluster: Cluster) -> list[Json]:
    return (await cluster.list(WRITTEN_EVENTS)).items


async def test_an_event_names_its_object_reason_and_teller(cluster: Cluster, made: Json) -> None:
    recorder = EventRecorder(cluster, instance="controller-0", clock=Clock())

    await recorder.tell(CONFIG_MAPS, made, Happening("GateFailed", "7 of 40", is_warning=True))

    (event,) = await told(cluster)
    regarding = event["regarding"]
    assert (event["type"], event["reason"], event["note"]) == ("Warning", "GateFailed", "7 of 40")
    assert event["reportingInstance"] == "controller-0"
    assert (regarding["kind"], regarding["name"]) == ("ConfigMap", "something")
    assert regarding["uid"] == made["metadata"]["uid"]


async def test_the_same_again_is_a_series_and_later_an_event_of_its_own(
    cluster: Cluster, made: Json
) -> None:
    clock = Clock()
    recorder = EventRecorder(cluster, instance="controller-0", clock=clock)
    for _ in range(3):
        await recorder.tell(CONFIG_MAPS, made, Happening("SourceUnreachable", "no answer"))
        clock.advance(10)
    (series,) = await told(cluster)

    clock.advance(SERIES_SECONDS)
    await recorder.tell(CONFIG_MAPS, made, Happening("SourceUnreachable", "no answer"))
    await recorder.tell(CONFIG_MAPS, made, Happening("SourceUnreachable", "another reason"))

    assert series["series"]["count"] == 3
    assert len(await told(cluster)) == 3


async def test_an_event_that_the_server_forgot_is_written_anew(
    cluster: Cluster, made: Json
) -> None:
    recorder = EventRecorder(cluster, instance="controller-0", clock=Clock())
    await recorder.tell(CONFIG_MAPS, made, Happening("Live", "it answers"))
    (event,) = await told(cluster)
    await cluster.delete(WRITTEN_EVENTS, event["metadata"]["name"])

    await recorder.tell(CONFIG_MAPS, made, Happening("Live", "it answers"))

    assert len(await told(cluster)) == 1


async def test_a_note_longer_than_the_server_takes_is_cut(cluster: Cluster, made: Json) -> None:
    recorder = EventRecorder(cluster, instance="c" * 500, clock=Clock())

    await recorder.tell(CONFIG_MAPS, made, Happening("Rejected", "x" * 5000, is_warning=True))

    (event,) = await told(cluster)
    assert 900 < len(event["note"]) <= 1024


async def test_nobody_is_disturbed_when_no_event_can_be_written(
    kube: KubeWorld, cluster: Cluster, made: Json
) -> None:
    away = await kube.connect(request_seconds=2.0)
    recorder = EventRecorder(away, instance="controller-0", clock=Clock())
    kube.line.cut()

    await recorder.tell(CONFIG_MAPS, made, Happening("Live", "it answers"))
    kube.line.mend()

    assert await told(cluster) == []
