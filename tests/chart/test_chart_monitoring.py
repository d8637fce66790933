"""Monitors, alerts, dashboards and scaling: the chart's objects against what they are made of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from bench.kubelet.chart import CHART
from tests.builders.helm import Json, engine, object_named, pod_of, refusal, render
from tests.builders.operations_page import ADAPTER, yaml_files

WATCHED: Json = {
    "front": {"mode": "envoy"},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
        "dashboards": {"enabled": True},
    },
}
METRICS = (CHART.parents[1] / "docs" / "metrics.md").read_text()


def rule_files() -> list[Json]:
    paths = sorted((CHART / "rules").glob("*.yaml"))
    return [group for path in paths for group in yaml.safe_load(path.read_text())["groups"]]


def rules_of(values: Json) -> list[Json]:
    return list(object_named(render(values), "PrometheusRule", "loraplane")["spec"]["groups"])


def test_the_rules_are_those_of_the_files() -> None:
    assert rules_of(WATCHED) == rule_files()


def test_alerts_lead_to_ones_own_runbook_and_carry_ones_own_labels() -> None:
    own = {
        "enabled": True,
        "runbookBase": "https://x/docs/",
        "alertLabels": {"team": "ml", "severity": "none"},
    }

    groups = rules_of({"monitoring": {"prometheusRule": own}})

    rules = [rule for group in groups for rule in group["rules"]]
    alerts = [rule for rule in rules if "alert" in rule]
    assert len(alerts) > 15
    for alert in alerts:
        assert alert["annotations"]["runbook_url"].startswith("https://x/docs/docs/alerts.md#lora")
        assert alert["labels"]["team"] == "ml"
        assert alert["labels"]["severity"] in ("page", "ticket")
    assert all("team" not in rule.get("labels", {}) for rule in rules if "record" in rule)


def test_each_monitor_finds_its_one_service_and_names_the_job_that_the_alerts_know() -> None:
    objects = render(WATCHED)
    services = [body for body in objects if body["kind"] == "Service"]
    jobs = set()

    for monitor in (body for body in objects if body["kind"] == "ServiceMonitor"):
        spec = monitor["spec"]
        (endpoint,) = spec["endpoints"]
        keep, job = endpoint["relabelings"]
        (service,) = [
            body["metadata"]["name"]
            for body in services
            if spec["selector"]["matchLabels"].items() <= body["metadata"]["labels"].items()
            and re.fullmatch(keep["regex"], body["metadata"]["name"])
        ]
        ports = object_named(objects, "Service", service)["spec"]["ports"]
        assert endpoint["port"] in [port["name"] for port in ports]
        assert monitor["metadata"]["labels"]["release"] == "prometheus"
        jobs.add(job["replacement"])

    known = set(re.findall(r"loraplane-(?:controller|engine)\b", json.dumps(rule_files())))
    assert jobs == {*known, "loraplane-front"}


def test_engines_are_read_with_the_token_that_they_ask_for() -> None:
    objects = render(WATCHED)
    monitor = object_named(objects, "ServiceMonitor", "loraplane-engine")

    credentials = monitor["spec"]["endpoints"][0]["authorization"]["credentials"]

    env = pod_of(engine(objects))["containers"][0]["env"]
    (asked,) = [item for item in env if item["name"] == "LORAPLANE_METRICS_TOKEN"]
    assert credentials == asked["valueFrom"]["secretKeyRef"]
    assert credentials["key"] in object_named(objects, "Secret", credentials["name"])["data"]


@pytest.mark.parametrize(
    "path", sorted((CHART / "dashboards").glob("*.json")), ids=lambda p: p.stem
)
def test_a_dashboard_reaches_grafana_as_it_is(path: Path) -> None:
    shown = object_named(render(WATCHED), "ConfigMap", f"loraplane-dashboard-{path.stem}")

    (text,) = shown["data"].values()
    assert json.loads(text) == json.loads(path.read_text())
    assert shown["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len(text) < 1_000_000  # What etcd takes.


def test_by_default_no_kind_is_needed_that_a_cluster_may_lack() -> None:
    groups = {body["apiVersion"].partition("/")[0] for body in render()}

    assert groups <= {"v1", "apps", "policy", "networking.k8s.io", "rbac.authorization.k8s.io"}


@pytest.mark.parametrize("kind", ["hpa", "keda"])
def test_scaling_takes_the_number_of_engines_over(kind: str) -> None:
    scaled = {"enabled": True, "kind": kind, "minReplicas": 2, "maxReplicas": 5}
    objects = render({"autoscaling": scaled})
    (scaler,) = [
        body for body in objects if body["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    ]

    assert "replicas" not in engine(objects)["spec"]
    target = scaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("StatefulSet", "loraplane-engine")
    assert sorted(
        value for key, value in scaler["spec"].items() if key.startswith(("min", "max"))
    ) == [2, 5]


def test_scaling_follows_metrics_that_exist() -> None:
    hpa = object_named(
        render({"autoscaling": {"enabled": True}}), "HorizontalPodAutoscaler", "loraplane-engine"
    )
    keda = object_named(
        render({"autoscaling": {"enabled": True, "kind": "keda"}}),
        "ScaledObject",
        "loraplane-engine",
    )
    queries = [trigger["metadata"]["query"] for trigger in keda["spec"]["triggers"]]

    (rule,) = yaml.safe_load(yaml_files()[ADAPTER])["rules"]["external"]
    (metric,) = [item["external"]["metric"] for item in hpa["spec"]["metrics"]]
    named = {rule["seriesQuery"]}
    named |= {name for query in queries for name in re.findall(r"loraplane_\w+", query)}
    assert metric["name"] == rule["name"]["as"]
    # Each controller has the series, and a scaler adds up what it is given several of.
    assert rule["metricsQuery"].startswith("max(<<.Series>>{")
    assert any("max(loraplane_recommended_engines{" in query for query in queries)
    assert named == {"loraplane_recommended_engines"}
    assert "`loraplane_recommended_engines`" in METRICS
    assert any("vllm:num_requests_waiting{" in query for query in queries)


def test_unknown_is_not_zero_when_scaling() -> None:
    """An empty answer read as 0 would scale the fleet down whenever Prometheus has restarted."""
    scaled = object_named(
        render({"autoscaling": {"enabled": True, "kind": "keda"}}),
        "ScaledObject",
        "loraplane-engine",
    )

    assert {item["metadata"]["ignoreNullValues"] for item in scaled["spec"]["triggers"]} == {
        "false"
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"minReplicas": 5, "maxReplicas": 2}, "minReplicas (5) is more than"),
        ({"kind": "keda", "keda": {"recommended": False, "waitingPerEngine": 0}}, "or both"),
        ({"kind": "vpa"}, "autoscaling/kind"),
    ],
)
def test_scaling_that_cannot_be_is_refused(values: Json, said: str) -> None:
    assert said in refusal({"autoscaling": {"enabled": True, **values}})
