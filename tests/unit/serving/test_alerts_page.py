"""The alert examples name metrics and label values that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from serving.controller.metrics import ControllerMetrics
from serving.controller.steps.metrics import StepMetrics
from serving.engine.metrics import EngineMetrics

PAGE = Path(__file__).parents[3] / "docs" / "alerts.md"
METRIC = re.compile(r"loraplane_[a-z_]+")


def rules() -> list[dict[str, Any]]:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (group,) = yaml.safe_load(block)["groups"]
    return list(group["rules"])


def exposed() -> set[str]:
    """Names of samples, as a scrape of a controller and an engine gives them."""
    controller = ControllerMetrics()
    StepMetrics(controller.registry)
    engine = CollectorRegistry()
    EngineMetrics(gpu_slots=1, clock=lambda: 0.0).register(engine)
    families = [*controller.registry.collect(), *engine.collect()]
    return {item.name + ("_total" if item.type == "counter" else "") for item in families}


def test_every_metric_of_an_alert_exists() -> None:
    named = {name for rule in rules() for name in METRIC.findall(rule["expr"])}

    assert named - exposed() == set()
    assert {
        "loraplane_adapter_probe_failures_total", "loraplane_gate_rechecks_total",
        "loraplane_versions_out_of_service", "loraplane_adapter_probes_total",
    } <= named  # fmt: skip


def test_every_verdict_and_outcome_of_an_alert_is_one_that_is_counted_from_the_start() -> None:
    controller = ControllerMetrics()
    StepMetrics(controller.registry)
    engine = CollectorRegistry()
    EngineMetrics(gpu_slots=1, clock=lambda: 0.0).register(engine)

    for rule in rules():
        for name, label, value in re.findall(
            r'(loraplane_[a-z_]+)\{(verdict|outcome)="([^"]+)"\}', rule["expr"]
        ):
            found = [
                r.get_sample_value(name, {label: value}) for r in (controller.registry, engine)
            ]
            assert 0.0 in found, (name, value)


def test_every_alert_says_what_it_is_about_and_how_urgent() -> None:
    found = rules()

    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
