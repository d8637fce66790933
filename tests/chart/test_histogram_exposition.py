"""Histograms as Prometheus reads them: cumulative buckets, ascending `le`, the last one +Inf."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.controller.metrics import ControllerMetrics
from serving.controller.steps.metrics import StepMetrics, Stopwatch
from serving.engine.metrics import EngineMetrics
from serving.engine.ports import LoadSeconds, WorkerFacts
from serving.engine.series import FinishedRequest

Buckets = dict[tuple[str, tuple[str, ...]], list[tuple[str, float]]]


def of_an_engine() -> CollectorRegistry:
    registry = CollectorRegistry()
    metrics = EngineMetrics(gpu_slots=1, clock=lambda: 0.0)
    metrics.register(registry)
    found = LoadSeconds((0.01, 0.1, 1.0), (2, 1, 0, 1), 9.7)
    metrics.facts = WorkerFacts(load_seconds={"disk": found, "cache": found})
    for seconds in (0.001, 0.2, 1.0, 1000.0):
        metrics.finished(
            FinishedRequest(
                "acme/support@1", 7, 5, ttft_seconds=seconds, e2e_seconds=seconds, outcome="stop",
                inter_token_seconds=seconds, slot_wait_seconds=seconds,
            )
        )  # fmt: skip
    return registry


def of_a_controller() -> CollectorRegistry:
    metrics = ControllerMetrics()
    with Stopwatch(StepMetrics(metrics.registry)).stage("total"):
        pass
    return metrics.registry


def samples(
    registry: CollectorRegistry,
) -> tuple[Buckets, dict[tuple[str, tuple[str, ...]], float]]:
    """Buckets and counts by histogram and its other labels, in the order of the page."""
    buckets: Buckets = defaultdict(list)
    counts = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        if family.type != "histogram":
            continue
        for sample in family.samples:
            labels = tuple(v for k, v in sorted(sample.labels.items()) if k != "le")
            if sample.name.endswith("_bucket"):
                buckets[family.name, labels].append((sample.labels["le"], sample.value))
            if sample.name.endswith("_count"):
                counts[family.name, labels] = sample.value
    return buckets, counts


@pytest.mark.parametrize("registry", [of_an_engine(), of_a_controller()], ids=["engine", "gate"])
def test_buckets_are_cumulative_and_end_with_infinity(registry: CollectorRegistry) -> None:
    buckets, counts = samples(registry)

    assert buckets.keys() == counts.keys()
    assert sum(counts.values()) > 0
    for key, found in buckets.items():
        bounds = [float(bound) for bound, _ in found]
        assert all(left < right for left, right in pairwise(bounds)), key
        assert all(left <= right for (_, left), (_, right) in pairwise(found)), key
        assert found[-1] == ("+Inf", counts[key])
        assert math.isinf(bounds[-1])


def test_a_value_on_a_bound_is_in_that_buckets_count() -> None:
    buckets, _ = samples(of_an_engine())

    by_bound = dict(buckets["loraplane_adapter_ttft_seconds", ("acme/support@1",)])
    assert by_bound["1.0"] - by_bound["0.5"] == 1
