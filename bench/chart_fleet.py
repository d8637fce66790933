"""A fleet for benchmarks as the chart renders it: its pods as processes, without an API server."""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.fleet import Fleet, FleetFailed
from bench.kubelet.chart import CPU_PROFILE, render
from bench.kubelet.node import Node
from bench.kubelet.objects import Json

RELEASE, NAMESPACE = "loraplane", "fleet"
_READY_SECONDS = 900.0
_IN_CLUSTER = "LORAPLANE_KUBERNETES"
"""The one departure from the rendered containers: there is no API server to hold a Lease in."""
_SERIES = re.compile(r"^loraplane_(adapter_\w+_total)\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class ChartFleet:
    """A running release."""

    node: Node
    objects: list[Json]
    admin_token: str
    metrics_token: str

    def through(self, front: str) -> Fleet:
        """The fleet as its tenants see it through one of the fronts."""
        ((address, port),) = self._ports(f"{RELEASE}-{front}", "http")
        controller, controller_port = self._ports(f"{RELEASE}-controller", "http")[0]
        return Fleet(
            url=f"http://{controller}:{controller_port}",
            engine_url=f"http://{address}:{port}",
            admin_token=self.admin_token,
            folder=self.node.folder,
        )

    def counted(self) -> dict[str, dict[str, int]]:
        """Each engine's own counts, summed over adapters: loads and evictions by kind, requests.

        Raises:
            FleetFailed: an engine does not show its metrics.
        """
        found = {}
        for address, port in self._ports(f"{RELEASE}-engine", "http"):
            answer = httpx.get(
                f"http://{address}:{port}/metrics",
                headers={"Authorization": f"Bearer {self.metrics_token}"},
                timeout=30,
                trust_env=False,
            )
            if answer.is_error:
                raise FleetFailed(f"/metrics of {address}: {answer.status_code}")
            found[address] = parse_counts(answer.text)
        names = [pod.body.name for pod in self.node.pods_of(f"{RELEASE}-engine")]
        return dict(zip(names, found.values(), strict=True))

    def _ports(self, workload: str, name: str) -> list[tuple[str, int]]:
        return [
            (pod.where.address, int(port["containerPort"]))
            for pod in self.node.pods_of(workload)
            for container in pod.body.spec["containers"]
            for port in container["ports"]
            if port["name"] == name
        ]


def parse_counts(page: str) -> dict[str, int]:
    """Sums over adapters, by what is counted: `loads_cache`, `loads_disk`, `evictions_slot` ..."""
    sums: dict[str, int] = {
        f"{noun}_{kind}": 0
        for noun, kinds in (("loads", ("cache", "disk")), ("evictions", ("slot", "cache")))
        for kind in kinds
    } | {"requests": 0}
    for series, labels, value in _SERIES.findall(page):
        facts = dict(_LABEL.findall(labels))
        noun = series.removeprefix("adapter_").removesuffix("_total")
        kind = facts.get("source") or facts.get("level")
        key = f"{noun}_{kind}" if kind else noun
        if key in sums:
            sums[key] += int(float(value))
    return sums


@contextmanager
def running_chart(
    folder: Path, *, values: Mapping[str, Any], more: tuple[str, ...] = ()
) -> Iterator[ChartFleet]:
    """Render the chart with its CPU profile, run its pods, stop them again.

    `more`: further fronts `front-POLICY`, each the chart's own with that `lb_policy` instead and
    without the bound on one engine's share.

    Raises:
        NodeFailed: not ready in time; the pods' logs are in the text.
        NetworkUnavailable: this machine cannot run pods.
    """
    objects = render(
        RELEASE, namespace=NAMESPACE, files=[CPU_PROFILE], values=values, folder=folder
    )
    _without_cluster(objects)
    for policy in more:
        objects += other_front(objects, policy)
    secrets = {
        key: base64.b64decode(text).decode()
        for body in objects
        if (body["kind"], body["metadata"]["name"]) == ("Secret", f"{RELEASE}-secrets")
        for key, text in body["data"].items()
    }
    with Node(folder / "node", namespace=NAMESPACE) as node:
        node.apply(objects)
        node.wait_ready(seconds=_READY_SECONDS)
        yield ChartFleet(node, objects, secrets["admin-token"], secrets["metrics-token"])


def _without_cluster(objects: list[Json]) -> None:
    for body in objects:
        if (body["kind"], body["metadata"]["name"]) == ("Deployment", f"{RELEASE}-controller"):
            for container in body["spec"]["template"]["spec"]["containers"]:
                for variable in container["env"]:
                    if variable["name"] == _IN_CLUSTER:
                        variable["value"] = "false"


def other_front(objects: list[Json], policy: str) -> list[Json]:
    """Deployment and ConfigMap of the chart's front, with this `lb_policy` and no bounded load.

    Raises:
        FleetFailed: the chart's front does not hash.
    """
    name = f"{RELEASE}-front-{policy.lower().replace('_', '-')}"
    made = []
    for kind in ("ConfigMap", "Deployment"):
        (own,) = (
            body
            for body in objects
            if (body["kind"], body["metadata"]["name"]) == (kind, f"{RELEASE}-front")
        )
        made.append(copy.deepcopy(own))
        made[-1]["metadata"]["name"] = name
    config, deployment = made
    envoy = yaml.safe_load(config["data"]["envoy.yaml"])
    (engines,) = (
        each for each in envoy["static_resources"]["clusters"] if each["name"] == "engines"
    )
    if engines["lb_policy"] != "MAGLEV":
        raise FleetFailed(f"the chart's front has lb_policy {engines['lb_policy']}")
    engines["lb_policy"] = policy
    engines["common_lb_config"].pop("consistent_hashing_lb_config", None)
    config["data"]["envoy.yaml"] = yaml.safe_dump(envoy)
    template = deployment["spec"]["template"]
    for labels in (template["metadata"]["labels"], deployment["spec"]["selector"]["matchLabels"]):
        labels["app.kubernetes.io/component"] = name
    for volume in template["spec"]["volumes"]:
        if "configMap" in volume:
            volume["configMap"]["name"] = name
    return made
