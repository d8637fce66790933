"""The chart on a real API server: install, upgrade, roll back, uninstall, and what is left then."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.builders.envoy import until
from tests.builders.helm import HelmRefused
from tests.builders.helm_release import Release

Json = dict[str, Any]

KEPT = {
    "secret/loraplane-secrets",
    "persistentvolumeclaim/loraplane-controller-data",
    "persistentvolumeclaim/loraplane-store",
}
"""What NOTES.txt says that `helm uninstall` leaves of SMALL."""
NOTHING_KEPT: Json = {
    "secrets": {"keep": False},
    "store": {"pvc": {"keep": False}},
    "controller": {"persistence": {"keep": False}},
}
FRONT: Json = {"front": {"mode": "envoy"}}


async def what_remains(release: Release) -> set[str]:
    """After the garbage collector has taken the pods of what is gone."""

    async def n_dependents() -> int:
        left = await asyncio.to_thread(release.remaining)
        return sum(name.split("/")[0] in DEPENDENT for name in left)

    await until(n_dependents, 0, seconds=120)
    return await asyncio.to_thread(release.remaining)


DEPENDENT = {
    "pod",
    "replicaset.apps",
    "controllerrevision.apps",
    "endpoints",
    "endpointslice.discovery.k8s.io",
}


def adapter(name: str) -> Json:
    return {
        "apiVersion": "loraplane.dev/v1alpha1",
        "kind": "LoraAdapter",
        "metadata": {"name": name},
        "spec": {"tenant": "acme", "adapter": name, "source": {"uri": "s3://adapters/acme"}},
    }


async def test_an_install_makes_what_helm_says_and_an_uninstall_leaves_what_it_says(
    release: Release,
) -> None:
    said = release.install(FRONT)
    there = release.remaining()

    release.uninstall()
    left = await what_remains(release)

    assert {"deployment.apps/loraplane-controller", "statefulset.apps/loraplane-engine"} <= there
    assert {"deployment.apps/loraplane-front", "service/loraplane-front"} <= there
    assert left == KEPT
    for kept in KEPT:
        assert kept.partition("/")[2] in said.partition("leaves what cannot be made again")[2]


async def test_with_nothing_to_keep_an_uninstall_leaves_nothing(release: Release) -> None:
    release.install({**NOTHING_KEPT, **FRONT, "postgresql": _database(delete=True)})

    release.uninstall()

    # The claim is the StatefulSet's to delete, which this controller manager is too old to do.
    claim = {"persistentvolumeclaim/data-loraplane-postgresql-0"}
    assert await what_remains(release) - claim == set()


def _database(*, delete: bool) -> Json:
    return {"enabled": True, "persistence": {"deleteAtUninstall": delete}}


async def test_the_bundled_database_keeps_its_claim_and_its_password_together(
    release: Release,
) -> None:
    release.install({**NOTHING_KEPT, "postgresql": _database(delete=False)})
    await until(
        lambda: _is_there(release, "persistentvolumeclaim/data-loraplane-postgresql-0"), True
    )
    before = release.secret("loraplane-postgresql")

    release.uninstall()

    assert await what_remains(release) == {
        "secret/loraplane-postgresql",
        "persistentvolumeclaim/data-loraplane-postgresql-0",
    }
    release.install({**NOTHING_KEPT, "postgresql": _database(delete=False)})
    assert release.secret("loraplane-postgresql") == before
    assert before["password"] in before["database-url"]


async def _is_there(release: Release, name: str) -> bool:
    return name in await asyncio.to_thread(release.remaining)


def test_an_upgrade_applies_new_values_and_keeps_generated_secrets(release: Release) -> None:
    release.install({"postgresql": {"enabled": True}})
    before = [release.secret(f"loraplane-{name}") for name in ("secrets", "postgresql")]
    first = release.find("statefulset", "loraplane-engine")["spec"]["template"]["spec"]
    grace = first["terminationGracePeriodSeconds"]

    release.upgrade(
        {
            "postgresql": {"enabled": True},
            "engine": {"replicas": 3, "gpu": {"enabled": False}, "drain": {"timeoutSeconds": 77}},
            **FRONT,
        }
    )

    engines = release.find("statefulset", "loraplane-engine")["spec"]
    assert engines["replicas"] == 3
    assert grace - engines["template"]["spec"]["terminationGracePeriodSeconds"] == 120 - 77
    assert release.find("deployment", "loraplane-front")["spec"]["replicas"] == 2
    assert [release.secret(f"loraplane-{name}") for name in ("secrets", "postgresql")] == before
    assert all(len(value) >= 40 for value in before[0].values())
    assert len(set(before[0].values())) == len(before[0])


def test_a_given_secret_replaces_the_generated_one_and_leaves_the_others(release: Release) -> None:
    release.install()
    before = release.secret("loraplane-secrets")

    release.upgrade({"secrets": {"metricsToken": "a-token-of-mine-for-metrics"}})

    after = release.secret("loraplane-secrets")
    assert after == {**before, "metrics-token": "a-token-of-mine-for-metrics"}


def test_a_rollback_brings_the_values_of_that_revision_back(release: Release) -> None:
    release.install()
    before = release.secret("loraplane-secrets")
    release.upgrade({"engine": {"replicas": 4, "gpu": {"enabled": False}}, **FRONT})

    release.rollback(1)

    assert release.find("statefulset", "loraplane-engine")["spec"]["replicas"] == 1
    assert not any("loraplane-front" in name for name in release.remaining())
    assert release.secret("loraplane-secrets") == before


def test_a_second_install_of_the_same_name_takes_its_kept_secrets_up_again(
    release: Release,
) -> None:
    release.install()
    before = release.secret("loraplane-secrets")
    release.uninstall()

    release.install()

    assert release.secret("loraplane-secrets") == before


def test_two_releases_live_in_one_namespace(release: Release) -> None:
    other = Release(release.kubeconfig, release.namespace, "second")
    release.install(FRONT)
    other.install(FRONT)

    selected = {
        name: release.kubectl(
            "get", "pods", "-l", f"app.kubernetes.io/instance={name}", "-o", "name"
        )
        for name in ("loraplane", "second")
    }
    other.uninstall()

    assert release.find("statefulset", "loraplane-engine")["spec"]["replicas"] == 1
    assert not set(selected["loraplane"].split()) & set(selected["second"].split())


async def test_an_uninstall_ends_though_adapters_are_there_and_leaves_them(
    release: Release,
) -> None:
    """Nobody is left who could take a finalizer away: so there is none."""
    release.install()
    for name in ("support", "sql"):
        release.apply(adapter(name))

    release.uninstall()

    adapters = {"loraadapter.loraplane.dev/support", "loraadapter.loraplane.dev/sql"}
    assert await what_remains(release) == KEPT | adapters
    release.kubectl("delete", "loraadapter", "--all", "--timeout=60s")
    assert await what_remains(release) == KEPT


@pytest.mark.parametrize(
    ("values", "kind", "value"),
    [
        (
            {"monitoring": {"serviceMonitor": {"enabled": True}}},
            "monitoring.coreos.com/v1/ServiceMonitor",
            "monitoring.serviceMonitor.enabled",
        ),
        (
            {"monitoring": {"prometheusRule": {"enabled": True}}},
            "monitoring.coreos.com/v1/PrometheusRule",
            "monitoring.prometheusRule.enabled",
        ),
        (
            {"autoscaling": {"enabled": True, "kind": "keda"}},
            "keda.sh/v1alpha1/ScaledObject",
            "autoscaling.kind: keda",
        ),
        (
            {
                "front": {
                    "mode": "inferencePool",
                    "inferencePool": {
                        "endpointPicker": {"name": "picker"},
                        "gateway": {"name": "public"},
                    },
                }
            },
            "inference.networking.k8s.io/v1/InferencePool",
            "front.mode: inferencePool",
        ),
    ],
)
def test_a_kind_that_the_cluster_lacks_is_named_before_anything_is_made(
    release: Release, values: Json, kind: str, value: str
) -> None:
    with pytest.raises(HelmRefused) as refused:
        release.install(values)

    assert f"{value} needs the kind {kind}" in refused.value.message
    assert release.remaining() == set()


def test_with_the_operators_kinds_there_monitors_are_made(release: Release) -> None:
    plurals = {"servicemonitors": "ServiceMonitor", "prometheusrules": "PrometheusRule"}
    for plural, kind in plurals.items():
        release.apply(_operator_kind(plural, kind))
        release.kubectl(
            "wait", "--for=condition=established", f"crd/{plural}.monitoring.coreos.com"
        )

    release.install(
        {"monitoring": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}}
    )

    there = release.remaining()
    assert "servicemonitor.monitoring.coreos.com/loraplane-engine" in there
    assert "prometheusrule.monitoring.coreos.com/loraplane" in there
    for plural in plurals:
        release.kubectl("delete", "crd", f"{plural}.monitoring.coreos.com")


def _operator_kind(plural: str, kind: str) -> Json:
    """The Prometheus operator's kind, without its schema."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "singular": kind.lower()},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }
