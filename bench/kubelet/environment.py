"""A container's environment, as Kubernetes works it out of the pod's specification."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.kubelet.objects import Json, Objects, PodBody, PodInvalid

_REFERENCE = re.compile(r"\$\$|\$\(([^)]+)\)")


@dataclass(frozen=True)
class Placement:
    """What a pod learns when it is put on the node."""

    address: str
    host_address: str
    node: str = "node-of-one-machine"


def expand(text: str, values: Mapping[str, str]) -> str:
    """`$(NAME)` becomes its value where there is one; `$$` becomes `$`."""

    def replace(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return values.get(match[1], match[0])

    return _REFERENCE.sub(replace, text)


def service_links(services: Iterable[Json], cluster_ips: Mapping[str, str]) -> dict[str, str]:
    """The variables that every pod gets about its namespace's services unless it declines."""
    found = {}
    for service in services:
        name = service["metadata"]["name"]
        address = cluster_ips.get(name)
        if address is None:
            continue
        prefix = name.upper().replace("-", "_")
        first = service["spec"]["ports"][0]
        found[f"{prefix}_SERVICE_HOST"] = address
        found[f"{prefix}_SERVICE_PORT"] = str(first["port"])
        found[f"{prefix}_PORT"] = f"tcp://{address}:{first['port']}"
        for port in service["spec"]["ports"]:
            number, url = port["port"], f"tcp://{address}:{port['port']}"
            if port.get("name"):
                found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = str(
                    number
                )
            found[f"{prefix}_PORT_{number}_TCP"] = url
            found[f"{prefix}_PORT_{number}_TCP_PROTO"] = "tcp"
            found[f"{prefix}_PORT_{number}_TCP_PORT"] = str(number)
            found[f"{prefix}_PORT_{number}_TCP_ADDR"] = address
    return found


def container_environment(
    pod: PodBody, container: Json, objects: Objects, where: Placement, links: Mapping[str, str]
) -> dict[str, str]:
    """What the container's `envFrom` and `env` say, over the service links.

    Raises:
        PodInvalid: a reference that is not optional leads nowhere.
    """
    values = dict(links)
    for source in container.get("envFrom") or ():
        values |= _whole_map(source, objects)
    for item in container.get("env") or ():
        if "valueFrom" in item:
            value = _referenced(item["valueFrom"], pod, container, objects, where)
        else:
            value = expand(str(item.get("value", "")), values)
        if value is not None:
            values[item["name"]] = value
    return values


def _whole_map(source: Json, objects: Objects) -> dict[str, str]:
    kind, reference = (
        ("ConfigMap", source["configMapRef"])
        if "configMapRef" in source
        else ("Secret", source["secretRef"])
    )
    body = objects.find(kind, reference["name"])
    if body is None:
        if reference.get("optional"):
            return {}
        raise PodInvalid(f"{kind} {reference['name']} is not there")
    prefix = source.get("prefix", "")
    return {f"{prefix}{key}": value.decode() for key, value in contents(body).items()}


def _referenced(
    source: Json, pod: PodBody, container: Json, objects: Objects, where: Placement
) -> str | None:
    if "fieldRef" in source:
        return pod_field(source["fieldRef"]["fieldPath"], pod, where)
    if "resourceFieldRef" in source:
        return _resource(source["resourceFieldRef"], pod, container)
    kind = "Secret" if "secretKeyRef" in source else "ConfigMap"
    reference = source["secretKeyRef" if kind == "Secret" else "configMapKeyRef"]
    body = objects.find(kind, reference["name"])
    value = None if body is None else contents(body).get(reference["key"])
    if value is None and not reference.get("optional"):
        raise PodInvalid(f"{kind} {reference['name']} has no {reference['key']}")
    return None if value is None else value.decode()


def contents(body: Json) -> dict[str, bytes]:
    """A ConfigMap's or Secret's keys and their bytes."""
    if body["kind"] == "Secret":
        encoded = {key: base64.b64decode(text) for key, text in (body.get("data") or {}).items()}
        plain = {key: text.encode() for key, text in (body.get("stringData") or {}).items()}
        return encoded | plain
    binary = {key: base64.b64decode(text) for key, text in (body.get("binaryData") or {}).items()}
    return binary | {key: text.encode() for key, text in (body.get("data") or {}).items()}


def pod_field(path: str, pod: PodBody, where: Placement) -> str:
    """A `fieldRef`'s value.

    Raises:
        PodInvalid: no such field can be referred to.
    """
    fields = {
        "metadata.name": pod.name,
        "metadata.namespace": pod.namespace,
        "metadata.uid": pod.uid,
        "spec.nodeName": where.node,
        "spec.serviceAccountName": pod.service_account,
        "status.podIP": where.address,
        "status.podIPs": where.address,
        "status.hostIP": where.host_address,
    }
    if path in fields:
        return fields[path]
    found = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if found is None:
        raise PodInvalid(f"fieldPath {path}")
    return (pod.labels if found[1] == "labels" else pod.annotations).get(found[2], "")


_UNITS = {"m": 1e-3, "": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
          "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}  # fmt: skip


def _resource(reference: Json, pod: PodBody, container: Json) -> str:
    named = reference.get("containerName")
    resources = (pod.container(named) if named else container).get("resources") or {}
    where, _, name = reference["resource"].partition(".")
    found = (resources.get(where) or {}).get(name)
    if found is None:
        raise PodInvalid(f"{container['name']} has no {reference['resource']}")
    divisor = _quantity(str(reference.get("divisor", "1")))
    return str(-int(-_quantity(str(found)) // divisor))


def _quantity(text: str) -> float:
    number = text.rstrip("mkMGTi")
    return float(number) * _UNITS[text[len(number) :]]
