"""What the release's accounts may do: asked of a real API server, for all that it has."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders.access_reviews import (
    Right,
    all_rights,
    allowed,
    as_account,
    resources,
    rights_on,
)
from tests.builders.api_server import ApiServer
from tests.builders.helm_release import KubectlRefused, Release

Json = dict[str, Any]

LEASE, ENGINES = "loraplane-controller", "loraplane-engine"
NEEDED = frozenset(
    {
        # Who leads.
        Right("coordination.k8s.io", "leases", "create"),
        Right("coordination.k8s.io", "leases", "get", LEASE),
        Right("coordination.k8s.io", "leases", "update", LEASE),
        # What happened.
        Right("events.k8s.io", "events", "create"),
        Right("events.k8s.io", "events", "patch"),
        Right("", "events", "list"),
        # Engines.
        Right("", "pods", "get"),
        Right("", "pods", "list"),
        Right("", "pods", "watch"),
        Right("apps", "statefulsets", "get", ENGINES),
        # The reference.
        Right("batch", "jobs", "list"),
        Right("batch", "jobs", "create"),
        Right("batch", "jobs", "delete"),
        Right("", "pods/log", "get"),
        # LoraAdapter objects.
        Right("loraplane.dev", "loraadapters", "get"),
        Right("loraplane.dev", "loraadapters", "list"),
        Right("loraplane.dev", "loraadapters", "watch"),
        Right("loraplane.dev", "loraadapters/status", "patch"),
        # Their suites.
        Right("", "configmaps", "get"),
    }
)
USUAL: Json = {"front": {"mode": "envoy"}, "postgresql": {"enabled": True}}
NAMES = (LEASE, ENGINES, "loraplane-secrets", "hub")


@pytest.fixture(scope="module")
def release(api_server: ApiServer) -> Iterator[Release]:
    made = Release(api_server.kubeconfig(), f"rbac-{uuid.uuid4().hex[:8]}")
    made.kubectl("create", "namespace", made.namespace)
    made.install(USUAL)
    yield made
    made.uninstall()
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")


def rights(
    server: ApiServer, folder: Path, release: Release, account: str, where: str
) -> set[Right]:
    """What the account may do there and an account without any rights may not.

    A right on all objects of a kind stands for those on each by its name.
    """
    with as_account(server, folder, release.namespace, account) as client:
        known = resources(client)
        found = allowed(client, where, all_rights(known))
        of_one = {
            right
            for right in allowed(client, where, rights_on(known, NAMES))
            if Right(right.group, right.resource, right.verb) not in found
        }
    with as_account(server, folder, release.namespace, "nobody-in-particular") as client:
        anyone = allowed(client, where, found | of_one)
    assert len(known) > 60
    return (found | of_one) - anyone


def test_the_controller_may_do_what_it_needs_and_nothing_more(
    api_server: ApiServer, release: Release, tmp_path: Path
) -> None:
    release.upgrade(USUAL)

    found = rights(api_server, tmp_path, release, "loraplane-controller", release.namespace)

    assert found == NEEDED


@pytest.mark.parametrize("where", ["default", "kube-system", ""])
def test_in_another_namespace_and_over_all_of_them_it_may_do_nothing(
    api_server: ApiServer, release: Release, tmp_path: Path, where: str
) -> None:
    assert rights(api_server, tmp_path, release, "loraplane-controller", where) == set()


@pytest.mark.parametrize("component", ["engine", "front", "reference"])
def test_the_other_accounts_may_do_nothing(
    api_server: ApiServer, release: Release, tmp_path: Path, component: str
) -> None:
    account = f"loraplane-{component}"
    assert f"serviceaccount/{account}" in release.remaining()

    assert rights(api_server, tmp_path, release, account, release.namespace) == set()


def test_kubectl_says_the_same(release: Release) -> None:
    release.upgrade(USUAL)
    user = f"system:serviceaccount:{release.namespace}:loraplane-controller"

    def can_i(right: Right) -> str:
        resource, _, part = right.resource.partition("/")
        kind = f"{resource}.{right.group}" if right.group else resource
        target = f"{kind}/{right.name}" if right.name else kind
        words = ["auth", "can-i", right.verb, target, f"--as={user}"]
        try:
            return release.kubectl(*words, *([f"--subresource={part}"] if part else [])).strip()
        except KubectlRefused as exc:
            return str(exc).strip().splitlines()[0]

    denied = [
        Right("", "secrets", "get"), Right("", "pods", "delete"), Right("", "pods/exec", "create"),
        Right("apps", "statefulsets", "patch", ENGINES), Right("", "secrets", "get", "hub"),
        Right("loraplane.dev", "loraadapters", "update"), Right("batch", "jobs", "patch"),
        Right("rbac.authorization.k8s.io", "roles", "create"),
    ]  # fmt: skip
    assert {can_i(right) for right in sorted(NEEDED)} == {"yes"}
    assert {can_i(right) for right in denied} == {"no"}


def test_secrets_are_readable_by_the_names_in_the_values_and_no_others(
    api_server: ApiServer, release: Release, tmp_path: Path
) -> None:
    by_name = {"secrets": {"access": "names", "names": ["hub"]}}
    release.upgrade({"loraAdapters": by_name})

    found = rights(api_server, tmp_path, release, "loraplane-controller", release.namespace)

    assert found == NEEDED | {Right("", "secrets", "get", "hub")}


def test_without_jobs_and_adapter_objects_it_may_do_less(
    api_server: ApiServer, release: Release, tmp_path: Path
) -> None:
    release.upgrade({"loraAdapters": {"enabled": False}, "reference": _IN_PROCESS})

    found = rights(api_server, tmp_path, release, "loraplane-controller", release.namespace)

    gone = {right for right in NEEDED if right.group in ("batch", "loraplane.dev")}
    gone |= {Right("", "pods/log", "get"), Right("", "events", "list")}
    gone |= {Right("", "configmaps", "get")}
    assert found == NEEDED - gone


_IN_PROCESS: Json = {"runner": "process", "gpu": {"count": 0}}
