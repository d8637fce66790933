"""Who reaches whom: every pair of pods and port, as the chart's policies say."""

from __future__ import annotations

import pytest

from tests.builders.helm import BUCKET, POSTGRES, Json, render
from tests.builders.network_policies import End, pod, reaches

CONTROLLER, ENGINE, FRONT, REFERENCE, DATABASE, TEST = (
    pod(name, component=name)
    for name in ("controller", "engine", "front", "reference", "postgresql", "test")
)
OURS = (CONTROLLER, ENGINE, FRONT, REFERENCE, DATABASE)
CLIENT = pod("client")
STRANGER = pod("stranger", namespace="elsewhere")
PROMETHEUS = pod("prometheus", namespace="monitoring")
NEIGHBOUR = End("another release's engine", {**ENGINE.labels, "app.kubernetes.io/instance": "b"})
OUTSIDE = End("outside", address="203.0.113.7")
EVERYONE = (*OURS, TEST, CLIENT, STRANGER, PROMETHEUS, NEIGHBOUR, OUTSIDE)
PORTS = (22, 5432, 8080, 8400, 8500, 8600, 9901, 9902)

FOLDER: Json = {"model": {"source": "hostPath", "hostPath": {"path": "/models"}}}
"""So that nobody needs the hub."""
BEHIND_ENVOY: Json = {**FOLDER, "front": {"mode": "envoy"}, "postgresql": {"enabled": True}}


def let_in(values: Json) -> set[tuple[str, str, int]]:
    """(from, to, port) of all that reaches a pod of ours from a pod that is not itself."""
    objects = render(values)
    return {
        (source.name, target.name, port)
        for target in OURS
        for source in EVERYONE
        for port in PORTS
        if source is not target and reaches(objects, source, target, port)
    }


def test_behind_envoy_only_the_front_the_controller_and_prometheus_reach_an_engine() -> None:
    assert let_in(BEHIND_ENVOY) == {
        ("client", "front", 8080),
        ("front", "engine", 8500),
        ("controller", "engine", 8500),
        ("engine", "controller", 8400),
        ("test", "controller", 8400),
        ("controller", "reference", 8600),
        ("controller", "postgresql", 5432),
        ("prometheus", "controller", 8400),
        ("prometheus", "engine", 8500),
        ("prometheus", "front", 9902),
        # Our pods are pods of the namespace, but their own policies keep them in.
        ("test", "front", 8080),
        ("another release's engine", "front", 8080),
    }


def test_without_a_front_clients_of_the_namespace_reach_engines() -> None:
    reached = {(source, port) for source, target, port in let_in(FOLDER) if target == "engine"}

    assert ("client", 8500) in reached
    assert ("stranger", 8500) not in reached
    assert ("outside", 8500) not in reached
    assert {port for _, port in reached} == {8500}


def test_no_peers_in_the_values_means_nobody() -> None:
    """An empty list in a policy would mean everybody."""
    policy = {"clients": [], "controllerClients": [], "prometheus": []}

    reached = let_in({**BEHIND_ENVOY, "networkPolicy": policy})

    assert {source for source, target, _ in reached if target == "front"} == set()
    assert {source for source, target, _ in reached if target == "engine"} == {
        "front",
        "controller",
    }
    assert {source for source, target, _ in reached if target == "controller"} == {"engine", "test"}


def test_who_publishes_the_front_opens_it_and_nothing_else() -> None:
    service = {"type": "LoadBalancer"}

    reached = let_in({**BEHIND_ENVOY, "front": {"mode": "envoy", "service": service}})

    assert {entry for entry in reached if entry[0] == "outside"} == {("outside", "front", 8080)}


def test_peers_of_other_namespaces_are_let_in_by_name() -> None:
    gateway = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}}

    reached = let_in({**FOLDER, "networkPolicy": {"clients": [gateway]}})

    assert ("stranger", "engine", 8500) in reached
    assert ("client", "engine", 8500) not in reached


@pytest.mark.parametrize(
    ("values", "source", "ports"),
    [
        (FOLDER, ENGINE, set()),
        (FOLDER, REFERENCE, set()),
        (FOLDER, CONTROLLER, {443, 6443}),
        ({}, ENGINE, {443}),
        ({**FOLDER, **BUCKET}, ENGINE, {443}),
        ({**FOLDER, **POSTGRES}, CONTROLLER, {443, 5432, 6443}),
        (BEHIND_ENVOY, FRONT, set()),
        (BEHIND_ENVOY, DATABASE, set()),
    ],
    ids=[
        "engine", "reference", "controller", "engine with a hub", "engine with a bucket",
        "controller with PostgreSQL", "front", "bundled PostgreSQL",
    ],
)  # fmt: skip
def test_out_of_the_cluster_a_pod_reaches_what_its_values_need(
    values: Json, source: End, ports: set[int]
) -> None:
    objects = render(values)

    open_ports = {
        port for port in (*PORTS, 80, 443, 6443) if reaches(objects, source, OUTSIDE, port)
    }

    assert open_ports == ports


def test_addresses_narrow_what_a_pod_reaches() -> None:
    api, database = End("api", address="10.0.0.1"), End("database", address="10.1.0.5")
    to = {
        "kubernetesApi": {"to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}], "ports": [6443]},
        "database": {"to": [{"ipBlock": {"cidr": "10.1.0.0/16"}}], "port": 6432},
    }
    objects = render({**FOLDER, **POSTGRES, "networkPolicy": to})

    assert reaches(objects, CONTROLLER, api, 6443)
    assert reaches(objects, CONTROLLER, database, 6432)
    for target in (OUTSIDE, api, database):
        assert not reaches(objects, CONTROLLER, target, 443)
        assert not reaches(objects, CONTROLLER, target, 5432)


def test_dns_is_reachable_by_udp_from_every_pod_that_looks_names_up() -> None:
    rules = {
        body["metadata"]["name"]: [
            port
            for rule in body["spec"]["egress"]
            for port in rule.get("ports", [])
            if port["port"] == 53
        ]
        for body in render(BEHIND_ENVOY)
        if body["kind"] == "NetworkPolicy"
    }

    by_both = [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]
    assert rules == {
        "loraplane-controller": by_both,
        "loraplane-engine": by_both,
        "loraplane-reference": by_both,
        "loraplane-front": by_both,
        "loraplane-postgresql": [],
    }


def test_every_pod_of_the_chart_has_a_policy_or_none_has() -> None:
    on = {
        body["metadata"]["name"] for body in render(BEHIND_ENVOY) if body["kind"] == "NetworkPolicy"
    }
    off = render({**BEHIND_ENVOY, "networkPolicy": {"enabled": False}})

    assert on == {f"loraplane-{end.name}" for end in OURS}
    assert [body for body in off if body["kind"] == "NetworkPolicy"] == []


def test_a_policy_that_is_left_out_is_noticed() -> None:
    objects = [
        body for body in render(BEHIND_ENVOY) if body["metadata"]["name"] != "loraplane-postgresql"
    ]

    assert reaches(objects, STRANGER, DATABASE, 5432)
