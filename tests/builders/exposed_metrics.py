"""Every metric that an engine and a controller expose, with type and labels, asked of the code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric

from serving.controller.metrics import ControllerMetrics
from serving.controller.steps.metrics import StepMetrics
from serving.engine.metrics import EngineMetrics


@dataclass(frozen=True)
class Exposed:
    """`name` as one writes it in a query; a histogram's without `_bucket`."""

    name: str
    type: str
    labels: frozenset[str]

    @property
    def series(self) -> dict[str, frozenset[str]]:
        """Labels by the names of its samples."""
        if self.type != "histogram":
            return {self.name: self.labels}
        return {
            f"{self.name}_bucket": self.labels | {"le"},
            f"{self.name}_sum": self.labels,
            f"{self.name}_count": self.labels,
        }


def controller_metrics() -> list[Exposed]:
    metrics = ControllerMetrics()
    StepMetrics(metrics.registry)
    return _exposed(metrics.registry)


def engine_metrics() -> list[Exposed]:
    registry = CollectorRegistry()
    EngineMetrics(gpu_slots=1, clock=lambda: 0.0).register(registry)
    return _exposed(registry)


def series_labels(metrics: Iterable[Exposed]) -> dict[str, frozenset[str]]:
    """Labels by the name of each sample."""
    return {name: labels for metric in metrics for name, labels in metric.series.items()}


def _exposed(registry: CollectorRegistry) -> list[Exposed]:
    found = []
    for collector in list(registry._collector_to_names):
        for family in collector.collect():
            labels = _labels(collector if hasattr(collector, "_labelnames") else family, family)
            name = family.name + ("_total" if family.type == "counter" else "")
            found.append(Exposed(name, family.type, labels))
    return found


def _labels(declared: Any, family: Metric) -> frozenset[str]:
    """As declared; a family without any series yet has them too."""
    names = set(getattr(declared, "_labelnames", ()))
    for sample in family.samples:
        names |= sample.labels.keys() - {"le"}
    return frozenset(names)
