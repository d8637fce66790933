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


METADATA = {
    ("169.254.169.254", 80): "gcs",
    ("169.254.169.252", 988): "gcs",
    ("169.254.170.23", 80): "s3",
    ("fd00:ec2::23", 80): "s3",
}
"""Where GKE and EKS Pod Identity hand out credentials."""


@pytest.mark.parametrize("source", [CONTROLLER, ENGINE, REFERENCE], ids=lambda end: end.name)
@pytest.mark.parametrize("kind", ["gcs", "s3", "azure", "pvc"])
def test_without_a_secret_pods_reach_their_own_cloud_s_credentials_alone(
    kind: str, source: End
) -> None:
    scheme = {"gcs": "gs", "s3": "s3", "azure": "az"}.get(kind)
    bucket = {"type": kind, "url": f"{scheme}://adapters/fleet" if scheme else ""}

    by_identity = render({**FOLDER, "store": bucket})

    def reached(objects: list[Json]) -> set[tuple[str, int]]:
        """Of what is no pod, `OUTSIDE` on port 80 included, which no store has."""
        ends = {place: End("metadata", address=place[0]) for place in METADATA}
        return {place for place, end in ends.items() if reaches(objects, source, end, place[1])}

    assert reached(by_identity) == {place for place, cloud in METADATA.items() if cloud == kind}
    assert not reaches(by_identity, source, OUTSIDE, 80)
    if scheme:
        by_secret = render({**FOLDER, "store": {**bucket, "existingSecret": "bucket"}})
        assert reached(by_secret) == set()


def _registry(url: str) -> Json:
    return {"database": {"url": f"postgresql+asyncpg://{url}"}}


def _bucket_at(endpoint: str) -> Json:
    return {"store": {**BUCKET["store"], "s3": {"endpoint": endpoint}}}


@pytest.mark.parametrize(
    ("values", "ports"),
    [
        (_registry("user:p%40ss:7@db.example.com:6432/lora"), {6432}),
        (_registry("user:a:9/b@db.example.com:6432/lora?options=a@b"), {6432}),
        (_registry("user:password@db.example.com/lora"), {5432}),
        (_registry("db.example.com:6432?ssl=require"), {6432}),
        (_registry("user:password@[fd00::1]/lora"), {5432}),
        (_registry("user:password@[fd00::1]:6432/lora"), {6432}),
        (
            {**_registry("u:p@db:6432/lora"), "networkPolicy": {"database": {"port": 7432}}},
            {7432},
        ),
        (_bucket_at("http://minio.storage.svc:9000"), {9000}),
        (_bucket_at("http://minio.storage.svc"), {80}),
        (_bucket_at("https://minio.storage.svc:9443/"), {9443}),
        (_bucket_at("https://s3.example.com"), set()),
        (
            {**_bucket_at("http://minio:9000"), "networkPolicy": {"store": {"ports": [9001]}}},
            {9001},
        ),
        ({"model": {"hub": {"endpoint": "http://mirror.example.com:8081"}}}, {8081}),
    ],
)
def test_the_ports_that_the_values_name_are_the_ones_that_are_open(
    values: Json, ports: set[int]
) -> None:
    objects = render({**FOLDER, **values})
    asked = {80, 5432, 6432, 7432, 8081, 9000, 9001, 9443}

    assert {port for port in asked if reaches(objects, CONTROLLER, OUTSIDE, port)} == ports


@pytest.mark.parametrize("source", [CONTROLLER, ENGINE, REFERENCE], ids=lambda end: end.name)
def test_each_part_has_its_own_more(source: End) -> None:
    proxy = End("proxy", address="10.9.0.1")
    more = [{"to": [{"ipBlock": {"cidr": "10.9.0.1/32"}}], "ports": [{"port": 3128}]}]

    objects = render({**FOLDER, "networkPolicy": {f"{source.name}Egress": more}})

    may = {
        one.name for one in (CONTROLLER, ENGINE, REFERENCE) if reaches(objects, one, proxy, 3128)
    }
    assert may == {source.name}


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
