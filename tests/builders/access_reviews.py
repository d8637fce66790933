"""What an account may do, by the API server's own answers: every resource and verb that it has."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.builders.api_server import ApiServer

VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
VERBS_ON_ONE = ("get", "update", "patch", "delete")
"""Those that a rule can bind to an object's name; without `watch` and `list`, which hardly can."""
UNLISTED = frozenset(
    ("", f"pods/{part}") for part in ("log", "exec", "attach", "portforward", "eviction")
) | {("", "serviceaccounts/token"), ("", "services/proxy"), ("", "nodes/proxy")}
"""Parts that a full API server has, and the one of the tests does not list."""


@dataclass(frozen=True, order=True)
class Right:
    """A verb on a resource (`pods/log` for a part of one), of one object where `name` is given."""

    group: str
    resource: str
    verb: str
    name: str = ""


@contextmanager
def as_account(
    server: ApiServer, folder: Path, namespace: str, name: str
) -> Iterator[httpx.Client]:
    """A client that the API server takes for this service account."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    certificate, key = server.authority.issue(f"system:serviceaccount:{namespace}:{name}", groups)
    pem = folder / f"{namespace}-{name}.pem"
    pem.write_bytes(certificate + key)
    trust = ssl.create_default_context(cadata=server.authority.pem.decode())
    trust.load_cert_chain(pem)
    with httpx.Client(base_url=server.url, verify=trust, trust_env=False, timeout=60) as client:
        yield client


def resources(client: httpx.Client) -> set[tuple[str, str]]:
    """(group, resource) of all that the server has, parts of resources included."""
    groups = client.get("/apis").raise_for_status().json()["groups"]
    paths = {"/api/v1": ""}
    for group in groups:
        paths |= {f"/apis/{item['groupVersion']}": group["name"] for item in group["versions"]}
    listed = {
        (group, item["name"])
        for path, group in paths.items()
        for item in client.get(path).raise_for_status().json()["resources"]
    }
    return listed | UNLISTED


def all_rights(known: Iterable[tuple[str, str]]) -> set[Right]:
    """Every right on all objects of a kind, and the verbs that give away an account or a role."""
    roles, users = "rbac.authorization.k8s.io", ("users", "groups", "serviceaccounts")
    return (
        {Right(*item, verb) for item in known for verb in VERBS}
        | {Right("", item, "impersonate") for item in users}
        | {
            Right(roles, role, verb)
            for role in ("roles", "clusterroles")
            for verb in ("bind", "escalate")
        }
    )


def rights_on(known: Iterable[tuple[str, str]], names: Iterable[str]) -> set[Right]:
    """Every right on an object of one of these names; parts of resources aside."""
    whole = [item for item in known if "/" not in item[1]]
    return {Right(*item, verb, name) for item in whole for verb in VERBS_ON_ONE for name in names}


def allowed(client: httpx.Client, namespace: str, asked: Iterable[Right]) -> set[Right]:
    """Those of the rights that the client's account has in this namespace."""
    return {right for right in asked if _is_allowed(client, namespace, right)}


def _is_allowed(client: httpx.Client, namespace: str, right: Right) -> bool:
    resource, _, part = right.resource.partition("/")
    body: dict[str, Any] = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {
            "resourceAttributes": {
                "namespace": namespace,
                "group": right.group,
                "resource": resource,
                "subresource": part,
                "verb": right.verb,
                "name": right.name,
            }
        },
    }
    answer = client.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=body)
    return bool(answer.raise_for_status().json()["status"]["allowed"])
