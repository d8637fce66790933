"""What the chart renders is what every supported Kubernetes takes, and keeps our rules for pods."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest
import yaml

from tests.builders.chart_rules import broken_rules
from tests.builders.chart_values import COMBINATIONS
from tests.builders.helm import (
    GIVEN_SECRETS,
    PROFILES,
    Json,
    controller,
    engine,
    object_named,
    render,
)
from tests.builders.kube_schemas import VERSIONS, schema_problems

OTHERS = (
    "gateway.networking.k8s.io/",
    "inference.networking.k8s.io/",
    "keda.sh/",
    "monitoring.coreos.com/",
)
"""Kinds that no Kubernetes brings along."""


def sets() -> list[tuple[str | None, Json]]:
    return [
        *((name, {}) for name in PROFILES),
        *((None, values) for values in COMBINATIONS.values()),
    ]


def names() -> list[str]:
    return [*(f"profile {name}" for name in PROFILES), *COMBINATIONS]


def rendered(profile: str | None, values: Json) -> list[Json]:
    if "existingSecret" not in values.get("secrets", {}):
        values = {**values, "secrets": {**GIVEN_SECRETS, **values.get("secrets", {})}}
    return render(values, profile)


def with_job(objects: list[Json]) -> list[Json]:
    """The objects, and the Job that the controller makes of its template."""
    jobs = [
        yaml.safe_load(body["data"]["job.yaml"])
        for body in objects
        if body["kind"] == "ConfigMap" and "job.yaml" in body["data"]
    ]
    return [*objects, *jobs]


_KNOWN: set[tuple[str, str]] = set()
"""Objects that a version has taken before, so that the same one is not asked about again."""


@pytest.mark.parametrize(("profile", "values"), sets(), ids=names())
def test_every_supported_kubernetes_takes_the_objects(profile: str | None, values: Json) -> None:
    problems = []
    for body in with_job(rendered(profile, values)):
        if body["apiVersion"].startswith(OTHERS):
            continue
        text = json.dumps(body, sort_keys=True)
        for version in VERSIONS:
            if (version, text) not in _KNOWN:
                name = f"{version} {body['kind']} {body['metadata']['name']}"
                problems += [f"{name}: {item}" for item in schema_problems(body, version)]
                _KNOWN.add((version, text))

    assert problems == []


@pytest.mark.parametrize(("profile", "values"), sets(), ids=names())
def test_every_pod_keeps_the_rules(profile: str | None, values: Json) -> None:
    assert broken_rules(rendered(profile, values)) == []


def test_an_unknown_field_is_found() -> None:
    service = object_named(render(), "Service", "loraplane-engine")
    service["spec"]["publishNotReady"] = True

    problems = schema_problems(service, VERSIONS[-1])

    assert any("publishNotReady" in problem for problem in problems)


def test_a_volume_from_an_image_needs_a_kubernetes_that_has_them() -> None:
    values = {"model": {"source": "image", "image": {"reference": "registry.example.com/llama:1"}}}
    workload = engine(render(values))

    assert schema_problems(workload, "1.30") != []
    assert schema_problems(workload, "1.31") == []


def _as_root(objects: list[Json]) -> None:
    the_container(objects)["securityContext"]["runAsUser"] = 0


def _writable(objects: list[Json]) -> None:
    the_container(objects)["securityContext"]["readOnlyRootFilesystem"] = False


def _latest(objects: list[Json]) -> None:
    the_container(objects)["image"] = "loraplane-controller:latest"


def _no_tag(objects: list[Json]) -> None:
    the_container(objects)["image"] = "loraplane-controller"


def _unlimited(objects: list[Json]) -> None:
    del the_container(objects)["resources"]["limits"]["memory"]


def _unwatched(objects: list[Json]) -> None:
    del the_container(objects)["livenessProbe"]


def _told(objects: list[Json]) -> None:
    the_container(objects)["env"].append({"name": "X_TOKEN", "value": "abc"})


def _twice(objects: list[Json]) -> None:
    the_container(objects)["env"].append({"name": "HOME", "value": "/"})


def _linked(objects: list[Json]) -> None:
    del controller(objects)["spec"]["template"]["spec"]["enableServiceLinks"]


def _lost(objects: list[Json]) -> None:
    objects.remove(object_named(objects, "ServiceAccount", "loraplane-controller"))


def _astray(objects: list[Json]) -> None:
    object_named(objects, "Service", "loraplane-engine")["spec"]["selector"]["a"] = "b"


def _almighty(objects: list[Json]) -> None:
    object_named(objects, "Role", "loraplane-controller")["rules"][0]["verbs"] = ["*"]


def the_container(objects: list[Json]) -> Json:
    return controller(objects)["spec"]["template"]["spec"]["containers"][0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("spoil", "accused"),
    [
        (_as_root, "no numeric user"),
        (_writable, "readOnlyRootFilesystem is not True"),
        (_latest, "is no fixed image"),
        (_no_tag, "is no fixed image"),
        (_unlimited, "no limits of memory"),
        (_unwatched, "no livenessProbe"),
        (_told, "X_TOKEN stands in plain text"),
        (_twice, "HOME is set twice"),
        (_linked, "service links"),
        (_lost, "there is no ServiceAccount loraplane-controller"),
        (_astray, "selects no pod"),
        (_almighty, "a rule for everything"),
    ],
)
def test_a_broken_rule_is_found(spoil: Callable[[list[Json]], None], accused: str) -> None:
    objects = copy.deepcopy(render())
    spoil(objects)

    (found,) = broken_rules(objects)

    assert accused in found
