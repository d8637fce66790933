"""A container's environment, against what Kubernetes documents of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from bench.kubelet.environment import (
    Placement,
    container_environment,
    expand,
    pod_field,
    service_links,
)
from bench.kubelet.objects import Objects, PodBody, PodInvalid

WHERE = Placement("198.18.7.100", "198.18.7.1")
OBJECTS = Objects(
    [
        {
            "kind": "Secret",
            "metadata": {"name": "keys"},
            "data": {"token": base64.b64encode(b"s3cret").decode()},
        },
        {"kind": "ConfigMap", "metadata": {"name": "shape"}, "data": {"slots": "8"}},
    ]
)


def pod(container: dict[str, Any]) -> PodBody:
    spec = {"containers": [container], "serviceAccountName": "engines"}
    return PodBody("engine-0", "fleet", {"tier": "gpu"}, {}, spec, owner={})


def values(*env: dict[str, Any], **more: Any) -> dict[str, str]:
    container = {"name": "engine", "env": list(env), **more}
    return container_environment(pod(container), container, OBJECTS, WHERE, {})


def test_a_value_may_use_the_ones_before_it_and_no_later_one() -> None:
    found = values(
        {"name": "EARLY", "value": "$(NAME):$(LATE)"},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "URL", "value": "http://$(NAME).engines:8500"},
        {"name": "LATE", "value": "x"},
    )

    assert found["URL"] == "http://engine-0.engines:8500"
    assert found["EARLY"] == "$(NAME):$(LATE)"


def test_a_doubled_dollar_is_one_and_refers_to_nothing() -> None:
    assert expand("$$(NAME) $(NAME) $NAME $", {"NAME": "x"}) == "$(NAME) x $NAME $"


def test_secrets_and_config_maps_are_read_by_key() -> None:
    found = values(
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "token"}}},
        {"name": "SLOTS", "valueFrom": {"configMapKeyRef": {"name": "shape", "key": "slots"}}},
        envFrom=[{"configMapRef": {"name": "shape"}, "prefix": "SHAPE_"}],
    )

    assert found == {"TOKEN": "s3cret", "SLOTS": "8", "SHAPE_slots": "8"}


def test_a_reference_that_leads_nowhere_keeps_the_pod_from_starting_unless_it_is_optional() -> None:
    reference = {"name": "keys", "key": "absent"}

    with pytest.raises(PodInvalid, match="absent"):
        values({"name": "TOKEN", "valueFrom": {"secretKeyRef": reference}})
    optional = {"secretKeyRef": {**reference, "optional": True}}
    assert values({"name": "TOKEN", "valueFrom": optional}) == {}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.namespace", "fleet"),
        ("metadata.labels['tier']", "gpu"),
        ("metadata.labels['absent']", ""),
        ("spec.serviceAccountName", "engines"),
        ("status.podIP", "198.18.7.100"),
        ("status.hostIP", "198.18.7.1"),
    ],
)
def test_a_pod_learns_about_itself(path: str, value: str) -> None:
    assert pod_field(path, pod({"name": "engine"}), WHERE) == value


def test_resources_are_divided_and_rounded_up() -> None:
    def asked(resource: str, divisor: str) -> dict[str, Any]:
        reference = {"resource": resource, "divisor": divisor}
        return {"name": resource, "valueFrom": {"resourceFieldRef": reference}}

    found = values(
        asked("limits.cpu", "1"),
        asked("limits.memory", "1Mi"),
        resources={"limits": {"cpu": "1500m", "memory": "2Gi"}},
    )

    assert found == {"limits.cpu": "2", "limits.memory": "2048"}


def test_service_links_name_every_service_with_a_cluster_ip() -> None:
    service = {
        "metadata": {"name": "loraplane-controller"},
        "spec": {"ports": [{"name": "http", "port": 8400}]},
    }
    headless = {"metadata": {"name": "loraplane-engine"}, "spec": {"ports": [{"port": 8500}]}}

    found = service_links([service, headless], {"loraplane-controller": "198.18.7.2"})

    assert found["LORAPLANE_CONTROLLER_PORT"] == "tcp://198.18.7.2:8400"
    assert found["LORAPLANE_CONTROLLER_SERVICE_HOST"] == "198.18.7.2"
    assert found["LORAPLANE_CONTROLLER_SERVICE_PORT_HTTP"] == "8400"
    assert not [name for name in found if name.startswith("LORAPLANE_ENGINE")]
