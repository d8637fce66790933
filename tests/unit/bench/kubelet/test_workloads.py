"""Which pods are missing and which are too many."""

from __future__ import annotations

from typing import Any

from bench.kubelet.workloads import Present, missing, surplus


def workload(kind: str, name: str, replicas: int) -> dict[str, Any]:
    return {
        "kind": kind,
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "template": {"spec": {}}},
    }


def present(kind: str, owner: str, name: str, *, is_leaving: bool = False) -> Present:
    return Present(name, (kind, owner), is_leaving)


def test_a_stateful_pod_comes_back_under_its_name_once_it_is_gone() -> None:
    engines = workload("StatefulSet", "engine", 2)
    leaving = present("StatefulSet", "engine", "engine-0", is_leaving=True)
    other = present("StatefulSet", "engine", "engine-1")

    assert missing([engines], [leaving, other]) == []
    assert missing([engines], [other]) == [(engines, "engine-0")]


def test_a_leaving_pod_of_a_deployment_is_replaced_at_once_under_another_name() -> None:
    front = workload("Deployment", "front", 1)
    ((_, first),) = missing([front], [])
    leaving = present("Deployment", "front", first, is_leaving=True)

    ((_, second),) = missing([front], [leaving])

    assert first != second
    assert {first.rpartition("-")[0]} == {second.rpartition("-")[0]}


def test_several_missing_pods_have_several_names() -> None:
    front = workload("Deployment", "front", 3)
    ((_, first),) = missing([workload("Deployment", "front", 1)], [])

    names = [name for _, name in missing([front], [present("Deployment", "front", first)])]

    assert len({first, *names}) == 3


def test_fewer_replicas_end_the_highest_number_and_a_workload_that_is_gone_ends_all() -> None:
    pods = [present("StatefulSet", "engine", f"engine-{number}") for number in range(3)]

    assert surplus([workload("StatefulSet", "engine", 2)], pods) == ["engine-2"]
    assert surplus([], pods) == ["engine-0", "engine-1", "engine-2"]


def test_a_deployment_that_is_too_large_loses_as_many_as_are_too_many() -> None:
    pods = [present("Deployment", "front", f"front-{number}") for number in range(3)]

    assert len(surplus([workload("Deployment", "front", 1)], pods)) == 2
