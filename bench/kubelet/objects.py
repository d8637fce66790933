"""Rendered objects by kind and name, and the pods that workloads among them ask for."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


class PodInvalid(Exception):
    """A pod that a real kubelet would not start; the text says why."""


class Objects:
    """One namespace's objects."""

    def __init__(self, objects: Iterable[Json] = ()) -> None:
        self._by_name: dict[tuple[str, str], Json] = {}
        self.add(objects)

    def add(self, objects: Iterable[Json]) -> None:
        """Take over objects; one of the same kind and name is replaced."""
        for body in objects:
            self._by_name[body["kind"], body["metadata"]["name"]] = body

    def find(self, kind: str, name: str) -> Json | None:
        """The object, or None."""
        return self._by_name.get((kind, name))

    def of(self, *kinds: str) -> list[Json]:
        """All objects of these kinds."""
        return [body for (kind, _), body in self._by_name.items() if kind in kinds]


@dataclass(frozen=True)
class PodBody:
    """What is known of a pod before it runs."""

    name: str
    namespace: str
    labels: dict[str, str]
    annotations: dict[str, str]
    spec: Json
    owner: Json
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def service_account(self) -> str:
        """Name of the account that the pod runs as."""
        return str(self.spec.get("serviceAccountName", "default"))

    def container(self, name: str) -> Json:
        """One of its containers."""
        found = [each for each in self.containers() if each["name"] == name]
        return found[0]

    def containers(self) -> Iterator[Json]:
        """Init containers first."""
        yield from self.spec.get("initContainers") or ()
        yield from self.spec["containers"]

    def to_json(self) -> Json:
        """The pod as an object to create."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": self.labels,
                "annotations": self.annotations,
            },
            "spec": self.spec,
        }


def make_pod(workload: Json, name: str, namespace: str) -> PodBody:
    """A pod of a Deployment's or StatefulSet's template."""
    template = workload["spec"]["template"]
    spec = copy.deepcopy(template["spec"])
    labels = dict(template["metadata"].get("labels") or {})
    if workload["kind"] == "StatefulSet":
        labels |= {
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": name.rpartition("-")[2],
        }
        spec["hostname"] = name
        spec["subdomain"] = workload["spec"]["serviceName"]
        _claim_volumes(spec, workload, name)
    annotations = dict(template["metadata"].get("annotations") or {})
    return PodBody(name, namespace, labels, annotations, spec, owner=workload)


def _claim_volumes(spec: Json, workload: Json, pod: str) -> None:
    names = [
        claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())
    ]
    kept = [volume for volume in spec.get("volumes") or () if volume["name"] not in names]
    claimed = [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{pod}"}} for name in names
    ]
    spec["volumes"] = kept + claimed


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    """Whether a service's selector matches; an empty one matches nothing."""
    return bool(selector) and all(labels.get(key) == value for key, value in selector.items())


def port_number(port: int | str, spec: Json) -> int:
    """A port of a pod by number or by its name.

    Raises:
        PodInvalid: no container names such a port.
    """
    if isinstance(port, int):
        return port
    for container in spec["containers"]:
        for each in container.get("ports") or ():
            if each.get("name") == port:
                return int(each["containerPort"])
    raise PodInvalid(f"no container has a port named {port}")
