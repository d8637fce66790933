"""Rules that every object of the chart keeps, whatever the values; a broken one is a sentence."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

Json = dict[str, Any]

_SERVING = ("Deployment", "StatefulSet")
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|_KEY|DATABASE_URL)$")
_IMAGE = re.compile(r"^[^@]+(:(?!latest$)[A-Za-z0-9_.-]+|@sha256:[0-9a-f]{64})$")


@dataclass(frozen=True)
class Pod:
    """A pod template, and whose it is."""

    owner: str
    kind: str
    labels: dict[str, str]
    spec: Json

    @property
    def containers(self) -> list[Json]:
        """Init containers, too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]


def broken_rules(objects: list[Json]) -> list[str]:
    """`owner: what is wrong` for every rule that an object breaks."""
    pods = list(pods_of(objects))
    found = [f"{pod.owner}: {text}" for pod in pods for rule in _POD_RULES for text in rule(pod)]
    return found + list(_dangling(objects, pods)) + list(_too_powerful(objects))


def pods_of(objects: list[Json]) -> Iterator[Pod]:
    """Every pod template, that of the reference's Job included."""
    for body in objects:
        name = f"{body['kind']} {body['metadata'].get('name')}"
        if body["kind"] == "Pod":
            yield Pod(name, "Pod", body["metadata"]["labels"], body["spec"])
        elif body["kind"] in (*_SERVING, "Job"):
            template = body["spec"]["template"]
            yield Pod(name, body["kind"], template["metadata"]["labels"], template["spec"])
        elif body["kind"] == "ConfigMap" and "job.yaml" in body["data"]:
            yield from pods_of([yaml.safe_load(body["data"]["job.yaml"])])


def _is_restricted(pod: Pod) -> Iterator[str]:
    """Pod Security Standards, level restricted, and a read-only root file system."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(name):
            yield f"{name} is set"
    if pod.spec["securityContext"].get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "no seccomp profile"
    for container in pod.containers:
        context, name = container.get("securityContext", {}), container["name"]
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        }
        yield from (
            f"{name}: {key} is not {value}"
            for key, value in wanted.items()
            if context.get(key) != value
        )
        if not isinstance(context.get("runAsUser"), int) or context["runAsUser"] < 1:
            yield f"{name}: no numeric user"


def _is_bounded(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        for part in ("requests", "limits"):
            missing = {"cpu", "memory"} - set(container["resources"].get(part, {}))
            yield from (f"{container['name']}: no {part} of {name}" for name in sorted(missing))
    for volume in pod.spec.get("volumes", []):
        if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
            yield f"volume {volume['name']} has no limit"


def _is_watched(pod: Pod) -> Iterator[str]:
    if pod.kind in _SERVING:
        for container in pod.spec["containers"]:
            for probe in ("readinessProbe", "livenessProbe"):
                if probe not in container:
                    yield f"{container['name']}: no {probe}"


def _is_pinned(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        if not _IMAGE.match(container["image"]):
            yield f"{container['name']}: {container['image']} is no fixed image"


def _tells_no_secret(pod: Pod) -> Iterator[str]:
    for container in pod.containers:
        if "envFrom" in container:
            yield f"{container['name']}: envFrom takes what nobody has listed"
        names = [item["name"] for item in container.get("env", [])]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"{container['name']}: {name} is set twice"
        for item in container.get("env", []):
            if _SECRET_NAME.search(item["name"]) and "valueFrom" not in item:
                yield f"{container['name']}: {item['name']} stands in plain text"


def _is_alone(pod: Pod) -> Iterator[str]:
    if pod.spec.get("enableServiceLinks") is not False:
        yield "service links would set variables of ours"
    if "automountServiceAccountToken" not in pod.spec:
        yield "whether it gets a token is left to the account"
    volumes = {item["name"] for item in pod.spec.get("volumes", [])}
    for container in pod.containers:
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes and pod.kind != "StatefulSet":
                yield f"{container['name']}: there is no volume {mount['name']}"


_POD_RULES: tuple[Callable[[Pod], Iterator[str]], ...] = (
    _is_restricted, _is_bounded, _is_watched, _is_pinned, _tells_no_secret, _is_alone,
)  # fmt: skip


def _dangling(objects: list[Json], pods: list[Pod]) -> Iterator[str]:
    """Selectors that select nothing of ours, and names of ours that are not there."""
    there = {(body["kind"], body["metadata"]["name"]) for body in objects}
    for body in objects:
        selector = body["spec"].get("selector", {}) if "spec" in body else {}
        labels = selector if body["kind"] == "Service" else selector.get("matchLabels")
        if labels and not any(labels.items() <= pod.labels.items() for pod in pods):
            yield f"{body['kind']} {body['metadata']['name']}: selects no pod of the chart"
        service = body.get("spec", {}).get("serviceName")
        if body["kind"] == "StatefulSet" and ("Service", service) not in there:
            yield f"StatefulSet {body['metadata']['name']}: there is no Service {service}"
    for pod in pods:
        for kind, name in _mentioned(pod):
            if name.startswith("loraplane-") and (kind, name) not in there:
                yield f"{pod.owner}: there is no {kind} {name}"


def _mentioned(pod: Pod) -> Iterator[tuple[str, str]]:
    yield "ServiceAccount", pod.spec.get("serviceAccountName", "")
    for volume in pod.spec.get("volumes", []):
        yield "ConfigMap", volume.get("configMap", {}).get("name", "")
        yield "Secret", volume.get("secret", {}).get("secretName", "")
        claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
        yield "PersistentVolumeClaim", claim
    for container in pod.containers:
        for item in container.get("env", []):
            yield "Secret", item.get("valueFrom", {}).get("secretKeyRef", {}).get("name", "")


def _too_powerful(objects: list[Json]) -> Iterator[str]:
    for body in objects:
        name = f"{body['kind']} {body['metadata']['name']}"
        if body["kind"].startswith("ClusterRole"):
            yield f"{name}: reaches beyond the namespace"
        for rule in body.get("rules", []) if body["kind"] == "Role" else []:
            if "*" in (*rule["verbs"], *rule["resources"], *rule["apiGroups"]):
                yield f"{name}: a rule for everything"
