"""Pods decide who is leaving; who is gone for good needs a pod, a place and a silence together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from serving.contract import EngineReport
from serving.controller.registry.fleet import ObservedEngine
from serving.kube.engine_pods import PodPlan, has_place, ordinal_of, plan_pods

NOW, TIMEOUT = 1000.0, 15.0


def engine(name: str, *, seen: float = NOW, leaving: float | None = None) -> ObservedEngine:
    report = msgspec.convert(
        {
            "engine_id": name, "url": "http://e", "build": "b", "dtype": "float32", "revision": 1,
            "is_ready": True, "started_at": 1.0, "gpu_slots": 1, "cpu_slots": 1, "max_rank": 8,
            "max_model_len": 64,
        },
        EngineReport,
    )  # fmt: skip
    return ObservedEngine(report, seen, leaving)


def pod(*, is_leaving: bool = False, is_ready: bool = True) -> dict[str, Any]:
    metadata = {"deletionTimestamp": "2026-11-30T00:00:00Z"} if is_leaving else {}
    status = "True" if is_ready else "False"
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": status}]}}


def plan(pods: dict[str, Any], *engines: ObservedEngine) -> PodPlan:
    return plan_pods(pods, engines, statefulset="f-engine", now=NOW, timeout_seconds=TIMEOUT)


def test_an_engine_whose_pod_is_being_deleted_is_leaving_once() -> None:
    pods = {"f-engine-0": pod(is_leaving=True), "f-engine-1": pod(is_leaving=True)}

    found = plan(pods, engine("f-engine-0"), engine("f-engine-1", leaving=NOW))

    assert found == PodPlan(leaving=("f-engine-0",))


@pytest.mark.parametrize(("is_ready", "staying"), [(True, ("f-engine-0",)), (False, ())])
def test_a_new_pod_of_that_name_stays_once_it_is_ready(
    is_ready: bool, staying: tuple[str, ...]
) -> None:
    found = plan({"f-engine-0": pod(is_ready=is_ready)}, engine("f-engine-0", leaving=NOW - 60))

    assert found == PodPlan(staying=staying)


def test_an_unreachable_engine_with_a_pod_stays_unreachable() -> None:
    assert plan({"f-engine-0": pod()}, engine("f-engine-0", seen=0)) == PodPlan()


def test_only_a_silent_engine_of_this_statefulset_can_be_homeless() -> None:
    engines = [
        engine("f-engine-3", seen=0), engine("f-engine-4"), engine("another", seen=0),
        engine("g-engine-3", seen=0), engine("f-engine-x", seen=0),
    ]  # fmt: skip

    assert plan({}, *engines) == PodPlan(homeless=("f-engine-3",))


@pytest.mark.parametrize(
    ("name", "ordinal"),
    [
        ("f-engine-0", 0), ("f-engine-12", 12), ("f-engine", None), ("f-engine-", None),
        ("f-engine-01", None), ("f-engine-²", None), ("g-engine-1", None), ("f-engine-1-2", None),
        ("engine", None), ("f-engine--1", None),
    ],
)  # fmt: skip
def test_ordinals_are_read_as_the_statefulset_writes_them(name: str, ordinal: int | None) -> None:
    assert ordinal_of(name, "f-engine") == ordinal


@pytest.mark.parametrize(
    ("spec", "ordinal", "is_wanted"),
    [
        ({"replicas": 2}, 1, True),
        ({"replicas": 2}, 2, False),
        ({"replicas": 0}, 0, False),
        ({}, 0, True),
        ({}, 1, False),
        ({"replicas": 2, "ordinals": {"start": 5}}, 6, True),
        ({"replicas": 2, "ordinals": {"start": 5}}, 0, False),
    ],
)
def test_a_statefulset_has_places_from_its_first_ordinal_on(
    spec: dict[str, Any], ordinal: int, is_wanted: bool
) -> None:
    assert has_place({"metadata": {}, "spec": spec}, ordinal) is is_wanted


def test_a_statefulset_that_is_being_deleted_sends_nobody_away() -> None:
    body = {"metadata": {"deletionTimestamp": "2026-11-30T00:00:00Z"}, "spec": {"replicas": 0}}

    assert has_place(body, 3)
