"""The controller's Role against the code that uses it: all it needs, and nothing more."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import serving.kube
from serving.kube import kinds
from tests.builders.helm import Json, object_named, render

KUBE = Path(serving.kube.__file__).parent
VERBS = {
    "get": ("get",),
    "list": ("list",),
    "watch": ("watch",),
    "create": ("create",),
    "replace": ("update",),
    "patch": ("patch",),
    "patch_status": ("patch",),
    "delete": ("delete",),
}
"""Method of `Cluster` -> verbs of the API server."""

Right = tuple[str, str, str]
"""(group, resource, verb)"""
_ALL_SOURCES: Json = {
    "loraAdapters": {"secrets": {"access": "all"}, "configMaps": {"access": "all"}},
}


def rights_in_code() -> set[Right]:
    """What every call of the door in serving/kube asks for."""
    found: set[Right] = set()
    for path in KUBE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and path.name != "cluster.py":
                found |= set(_asked(node))
    return found


def _asked(call: ast.Call) -> Iterator[Right]:
    if isinstance(call.func, ast.Name) and call.func.id == "Mirror":
        yield from _of(call.args[1], ("list", "watch"), "")
    elif isinstance(call.func, ast.Attribute):
        if call.func.attr == "log_tail":
            yield ("", "pods/log", "get")
        elif call.func.attr in VERBS and call.args and isinstance(call.args[0], ast.Name):
            part = "/status" if call.func.attr == "patch_status" else ""
            yield from _of(call.args[0], VERBS[call.func.attr], part)
        elif call.func.attr == "_read" and isinstance(call.args[0], ast.Name):
            yield from _of(call.args[0], ("get",), "")


def _of(name: ast.expr, verbs: tuple[str, ...], part: str) -> Iterator[Right]:
    kind = getattr(kinds, name.id, None) if isinstance(name, ast.Name) else None
    if isinstance(kind, kinds.Kind):
        yield from ((kind.group, kind.plural + part, verb) for verb in verbs)


def rights_of(values: Json) -> set[Right]:
    role = object_named(render(values), "Role", "loraplane-controller")
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_controller_may_do_what_its_code_does_and_nothing_more() -> None:
    assert rights_of(_ALL_SOURCES) == rights_in_code()


def test_without_jobs_and_adapter_objects_those_rights_are_gone() -> None:
    values = {
        "reference": {"runner": "process", "gpu": {"count": 0}},
        "loraAdapters": {"enabled": False},
    }

    resources = {resource for _, resource, _ in rights_of(values)}

    assert resources == {"leases", "events", "pods", "statefulsets"}


def test_secrets_are_read_by_name_or_not_at_all() -> None:
    assert "secrets" not in {resource for _, resource, _ in rights_of({})}
    values = {"loraAdapters": {"secrets": {"access": "names", "names": ["hub"]}}}

    role = object_named(render(values), "Role", "loraplane-controller")

    (rule,) = [rule for rule in role["rules"] if rule["resources"] == ["secrets"]]
    assert (rule["resourceNames"], rule["verbs"]) == (["hub"], ["get"])


def test_only_the_controller_s_pod_has_a_token() -> None:
    objects = render()
    tokens = {
        body["metadata"]["name"]: body["spec"]["template"]["spec"]["automountServiceAccountToken"]
        for body in objects
        if body["kind"] in ("Deployment", "StatefulSet")
    }
    accounts = [body for body in objects if body["kind"] == "ServiceAccount"]

    assert tokens == {"loraplane-controller": True, "loraplane-engine": False}
    assert {account["automountServiceAccountToken"] for account in accounts} == {False}
    bound = object_named(objects, "RoleBinding", "loraplane-controller")["subjects"]
    assert [subject["name"] for subject in bound] == ["loraplane-controller"]
