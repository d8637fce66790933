"""What a set of NetworkPolicy objects lets through, by the rules of the API: who reaches whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class End:
    """A pod, or with `address` alone something that is none."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    namespace: str = "default"
    address: str = ""


def pod(name: str, *, component: str = "", namespace: str = "default") -> End:
    """A pod; `component`: one of the release `loraplane`."""
    labels = {"app": name}
    if component:
        labels = {
            "app.kubernetes.io/name": "loraplane",
            "app.kubernetes.io/instance": "loraplane",
            "app.kubernetes.io/component": component,
        }
    return End(name, labels, namespace)


def reaches(objects: list[Json], source: End, target: End, port: int) -> bool:
    """Whether a TCP connection passes the policies at both of its ends."""
    return all(
        _passes(objects, here, there, port, direction)
        for here, there, direction in ((source, target, "Egress"), (target, source, "Ingress"))
    )


def _passes(objects: list[Json], here: End, there: End, port: int, direction: str) -> bool:
    """Without a policy of this direction a pod is open; with several, any rule is enough."""
    mine = list(_policies_of(objects, here, direction))
    peers = "from" if direction == "Ingress" else "to"
    return not mine or any(
        _names_port(rule, port) and _names_peer(rule.get(peers), there, policy)
        for policy in mine
        for rule in policy["spec"].get(direction.lower()) or []
    )


def _policies_of(objects: list[Json], end: End, direction: str) -> Iterator[Json]:
    for body in objects:
        if (
            body["kind"] == "NetworkPolicy"
            and not end.address
            and body["metadata"]["namespace"] == end.namespace
            and direction in body["spec"]["policyTypes"]
            and _selects(body["spec"]["podSelector"], end.labels)
        ):
            yield body


def _names_port(rule: Json, port: int) -> bool:
    ports = rule.get("ports")
    return not ports or any(
        item["port"] == port and item.get("protocol", "TCP") == "TCP" for item in ports
    )


def _names_peer(peers: list[Json] | None, end: End, policy: Json) -> bool:
    if not peers:
        return True
    return any(_is_peer(peer, end, policy["metadata"]["namespace"]) for peer in peers)


def _is_peer(peer: Json, end: End, namespace: str) -> bool:
    if "ipBlock" in peer:
        # That of a pod is not known here, and by the API may not be relied on either.
        return bool(end.address) and ipaddress.ip_address(end.address) in ipaddress.ip_network(
            peer["ipBlock"]["cidr"]
        )
    if end.address:
        return False
    if "namespaceSelector" in peer:
        labels = {"kubernetes.io/metadata.name": end.namespace}
        if not _selects(peer["namespaceSelector"], labels):
            return False
    elif end.namespace != namespace:
        return False
    return _selects(peer.get("podSelector", {}), end.labels)


def _selects(selector: Json, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "only matchLabels are understood here"
    return selector.get("matchLabels", {}).items() <= labels.items()
