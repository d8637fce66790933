"""Rules beyond pods: labels, selectors, claims, budgets. A broken one is a sentence.

tests/builders/chart_rules.py has those for pods and for names that lead nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from tests.builders.chart_rules import Pod, pods_of

Json = dict[str, Any]

LABELS = frozenset(
    f"app.kubernetes.io/{name}"
    for name in ("name", "instance", "component", "version", "managed-by", "part-of")
)
SELECTING = frozenset(f"app.kubernetes.io/{name}" for name in ("name", "instance", "component"))
TALKS_TO_API = "controller"
"""The one component whose pods may carry a token."""


def broken_object_rules(objects: list[Json], *, may_use_host: bool = False) -> list[str]:
    """`kind name: what is wrong`; `may_use_host`: the values ask for a folder of the node."""
    pods = list(pods_of(objects))
    found = [
        f"{body['kind']} {body['metadata']['name']}: {text}"
        for body in objects
        for rule in _OBJECT_RULES
        for text in rule(body, pods)
    ]
    for pod in pods:
        found += [f"{pod.owner}: {text}" for text in _keeps_to_itself(pod, may_use_host)]
    return found


def _is_labelled(body: Json, _pods: list[Pod]) -> Iterator[str]:
    for label in sorted(LABELS - set(body["metadata"].get("labels", {}))):
        yield f"no label {label}"


def _is_placed(body: Json, _pods: list[Pod]) -> Iterator[str]:
    if "namespace" not in body["metadata"]:
        yield "no namespace: helm template | kubectl apply would put it anywhere"


def _can_be_upgraded(body: Json, _pods: list[Pod]) -> Iterator[str]:
    """A selector and claim templates cannot change: nothing in them may depend on a version."""
    if body["kind"] in ("Deployment", "StatefulSet"):
        selecting = set(body["spec"]["selector"]["matchLabels"])
        if selecting != SELECTING:
            yield f"selects by {sorted(selecting)}"
    for claim in body["spec"].get("volumeClaimTemplates", []) if "spec" in body else []:
        if not set(claim["metadata"].get("labels", {})) <= SELECTING:
            yield f"labels of claim {claim['metadata']['name']} change with the chart"


def _mounts_what_is_there(body: Json, _pods: list[Pod]) -> Iterator[str]:
    if body["kind"] == "StatefulSet":
        spec = body["spec"]["template"]["spec"]
        claims = {item["metadata"]["name"] for item in body["spec"].get("volumeClaimTemplates", [])}
        volumes = claims | {item["name"] for item in spec.get("volumes", [])}
        mounts = {
            mount["name"]
            for container in [*spec.get("initContainers", []), *spec["containers"]]
            for mount in container["volumeMounts"]
        }
        yield from (f"there is no volume {name}" for name in sorted(mounts - volumes))
        yield from (f"nobody mounts volume {name}" for name in sorted(volumes - mounts))


def _sends_where_somebody_listens(body: Json, pods: list[Pod]) -> Iterator[str]:
    if body["kind"] != "Service":
        return
    selector = body["spec"]["selector"].items()
    named = {
        port["name"]
        for pod in pods
        if selector <= pod.labels.items()
        for container in pod.containers
        for port in container.get("ports", [])
    }
    for port in body["spec"]["ports"]:
        if port["targetPort"] not in named:
            yield f"no container has a port {port['targetPort']}"


def _can_be_drained(body: Json, _pods: list[Pod]) -> Iterator[str]:
    if body["kind"] == "PodDisruptionBudget":
        if body["spec"].get("maxUnavailable") in (None, 0, "0%"):
            yield "a node with its pod could never be drained"
        if body["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield "a pod that serves nobody would hold up a drain"


def _tells_no_secret(body: Json, _pods: list[Pod]) -> Iterator[str]:
    if body["kind"] == "ConfigMap":
        for key, text in body["data"].items():
            if "postgresql+asyncpg://" in text or "BEGIN PRIVATE KEY" in text:
                yield f"{key} holds a secret"


_OBJECT_RULES: tuple[Callable[[Json, list[Pod]], Iterator[str]], ...] = (
    _is_labelled, _is_placed, _can_be_upgraded, _mounts_what_is_there,
    _sends_where_somebody_listens, _can_be_drained, _tells_no_secret,
)  # fmt: skip


def _keeps_to_itself(pod: Pod, may_use_host: bool) -> Iterator[str]:
    is_controller = pod.labels["app.kubernetes.io/component"] == TALKS_TO_API
    if pod.spec["automountServiceAccountToken"] and not is_controller:
        yield "gets a token that it does not need"
    for volume in pod.spec.get("volumes", []):
        if "hostPath" in volume and not may_use_host:
            yield f"volume {volume['name']} is a folder of the node"
    for container in pod.containers:
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{container['name']}: takes a port of the node"
    if pod.kind in ("Deployment", "StatefulSet"):
        for container in pod.spec["containers"]:
            if "startupProbe" not in container:
                yield f"{container['name']}: no startupProbe"
