"""Rules for every object of every profile and combination, each shown to find its offender."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from tests.builders.chart_values import COMBINATIONS
from tests.builders.helm import GIVEN_SECRETS, PROFILES, Json, object_named, render
from tests.builders.object_rules import broken_object_rules

EVERYTHING: Json = {
    "front": {"mode": "envoy"},
    "postgresql": {"enabled": True},
    "secrets": GIVEN_SECRETS,
    "engine": {"persistence": {"enabled": True}},
}


def uses_host(values: Json) -> bool:
    model = values.get("model", {})
    return "hostPath" in (model.get("source"), model.get("cache", {}).get("type"))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_keeps_the_rules(profile: str) -> None:
    objects = render({"secrets": GIVEN_SECRETS}, profile)

    assert broken_object_rules(objects, may_use_host=profile == "cpu") == []


@pytest.mark.parametrize("values", COMBINATIONS.values(), ids=COMBINATIONS)
def test_a_combination_keeps_the_rules(values: Json) -> None:
    assert broken_object_rules(render(values), may_use_host=uses_host(values)) == []


def _unlabelled(objects: list[Json]) -> None:
    del named(objects, "Service", "front")["metadata"]["labels"]["app.kubernetes.io/version"]


def _anywhere(objects: list[Json]) -> None:
    del named(objects, "NetworkPolicy", "engine")["metadata"]["namespace"]


def _versioned_selector(objects: list[Json]) -> None:
    labels = named(objects, "Deployment", "front")["spec"]["selector"]["matchLabels"]
    labels["helm.sh/chart"] = "loraplane-0.1.0"


def _versioned_claim(objects: list[Json]) -> None:
    (claim,) = named(objects, "StatefulSet", "postgresql")["spec"]["volumeClaimTemplates"]
    claim["metadata"]["labels"]["app.kubernetes.io/version"] = "0.1.0"


def _unmounted(objects: list[Json]) -> None:
    pod_of(objects, "StatefulSet", "postgresql")["volumes"].append(
        {"name": "spare", "emptyDir": {}}
    )


def _no_volume(objects: list[Json]) -> None:
    named(objects, "StatefulSet", "engine")["spec"]["volumeClaimTemplates"].clear()


def _no_port(objects: list[Json]) -> None:
    named(objects, "Service", "front-metrics")["spec"]["ports"][0]["targetPort"] = "admin"


def _stuck(objects: list[Json]) -> None:
    named(objects, "PodDisruptionBudget", "engine")["spec"]["maxUnavailable"] = 0


def _stuck_by_the_sick(objects: list[Json]) -> None:
    del named(objects, "PodDisruptionBudget", "front")["spec"]["unhealthyPodEvictionPolicy"]


def _told(objects: list[Json]) -> None:
    data = named(objects, "ConfigMap", "engine-profile")["data"]
    data["url"] = "postgresql+asyncpg://user:password@host/name"


def _token(objects: list[Json]) -> None:
    pod_of(objects, "StatefulSet", "engine")["automountServiceAccountToken"] = True


def _host_folder(objects: list[Json]) -> None:
    volume = pod_of(objects, "StatefulSet", "engine")["volumes"][0]
    del volume["configMap"]
    volume["hostPath"] = {"path": "/etc"}


def _host_port(objects: list[Json]) -> None:
    container = pod_of(objects, "Deployment", "front")["containers"][0]
    container["ports"][0]["hostPort"] = 80


def _impatient(objects: list[Json]) -> None:
    del pod_of(objects, "StatefulSet", "engine")["containers"][0]["startupProbe"]


def named(objects: list[Json], kind: str, name: str) -> Json:
    return object_named(objects, kind, f"loraplane-{name}")


def pod_of(objects: list[Json], kind: str, name: str) -> Json:
    return dict(named(objects, kind, name)["spec"]["template"])["spec"]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("spoil", "accused"),
    [
        (_unlabelled, "Service loraplane-front: no label app.kubernetes.io/version"),
        (_anywhere, "NetworkPolicy loraplane-engine: no namespace"),
        (_versioned_selector, "Deployment loraplane-front: selects by"),
        (_versioned_claim, "labels of claim data change with the chart"),
        (_unmounted, "nobody mounts volume spare"),
        (_no_volume, "there is no volume state"),
        (_no_port, "no container has a port admin"),
        (_stuck, "could never be drained"),
        (_stuck_by_the_sick, "would hold up a drain"),
        (_told, "url holds a secret"),
        (_token, "gets a token that it does not need"),
        (_host_folder, "is a folder of the node"),
        (_host_port, "takes a port of the node"),
        (_impatient, "engine: no startupProbe"),
    ],
)
def test_an_offender_is_found(spoil: Callable[[list[Json]], None], accused: str) -> None:
    objects = copy.deepcopy(render(EVERYTHING))
    assert broken_object_rules(objects) == []
    spoil(objects)

    (found,) = broken_object_rules(objects)

    assert accused in found
