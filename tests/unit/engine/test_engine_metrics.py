"""What the engine tells Prometheus and the controller about adapters."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.engine import metrics as module
from serving.engine.metrics import EngineMetrics, FinishedRequest
from serving.engine.ports import AdapterLoads, LoadSeconds, WorkerFacts

NAME = "acme/support@1"
PUBLIC_NAMES = {
    "loraplane_adapter_loads", "loraplane_adapter_load_seconds", "loraplane_adapter_evictions",
    "loraplane_adapters_resident", "loraplane_adapter_slots", "loraplane_adapter_requests",
    "loraplane_adapter_tokens", "loraplane_adapter_ttft_seconds", "loraplane_adapter_e2e_seconds",
    "loraplane_hot_adapters", "loraplane_admission_rejections", "loraplane_snapshot_revision",
    "loraplane_adapter_load_failures", "loraplane_adapter_probe_failures",
    "loraplane_adapter_loads_in_step", "loraplane_adapter_probes",
}  # fmt: skip


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def finished(name: str = NAME, **changes: float) -> FinishedRequest:
    values = {"prompt_tokens": 7, "completion_tokens": 5, "ttft_seconds": 0.2, "e2e_seconds": 2.0}
    return FinishedRequest(name=name, outcome="stop", **{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def metrics(clock: Clock) -> EngineMetrics:
    return EngineMetrics(gpu_slots=3, clock=clock)


def samples(metrics: EngineMetrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """Values by name and label values, in the order of the labels' names."""
    registry = CollectorRegistry()
    metrics.register(registry)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (s.name, tuple(v for _, v in sorted(s.labels.items()))): s.value
        for family in families
        for s in family.samples
    }


def test_every_public_name_is_there_from_the_start(metrics: EngineMetrics) -> None:
    registry = CollectorRegistry()
    metrics.register(registry)
    text = generate_latest(registry).decode()

    assert {f.name for f in text_string_to_metric_families(text)} == PUBLIC_NAMES


def test_worker_facts_are_shown_as_they_are(metrics: EngineMetrics) -> None:
    metrics.facts = WorkerFacts(
        adapters={NAME: AdapterLoads(4, 3, 2, 1)},
        active=(NAME,),
        cached=(NAME, "b/c@1"),
        load_seconds={"disk": LoadSeconds((0.01, 0.1), (2, 1, 1), 0.7)},
    )

    shown = samples(metrics)

    assert shown["loraplane_adapter_loads_total", (NAME, "disk")] == 4
    assert shown["loraplane_adapter_loads_total", (NAME, "cache")] == 3
    assert shown["loraplane_adapter_evictions_total", (NAME, "slot")] == 2
    assert shown["loraplane_adapter_evictions_total", (NAME, "cache")] == 1
    assert shown["loraplane_adapters_resident", ("slot",)] == 1
    assert shown["loraplane_adapters_resident", ("cache",)] == 2
    assert shown["loraplane_adapter_load_seconds_bucket", ("0.1", "disk")] == 3
    assert shown["loraplane_adapter_load_seconds_count", ("disk",)] == 4
    assert shown["loraplane_adapter_load_seconds_sum", ("disk",)] == 0.7


def test_finished_requests_are_counted_by_tenant_and_version(metrics: EngineMetrics) -> None:
    metrics.finished(finished())
    metrics.finished(finished(ttft_seconds=math.nan))

    shown = samples(metrics)

    assert shown["loraplane_adapter_requests_total", (NAME, "stop", "acme")] == 2
    assert shown["loraplane_adapter_tokens_total", (NAME, "prompt", "acme")] == 14
    assert shown["loraplane_adapter_tokens_total", (NAME, "completion", "acme")] == 10
    assert shown["loraplane_adapter_ttft_seconds_count", (NAME,)] == 1
    assert shown["loraplane_adapter_e2e_seconds_sum", (NAME,)] == 4.0
    buckets = [v for (n, _), v in shown.items() if n == "loraplane_adapter_e2e_seconds_bucket"]
    assert all(left <= right for left, right in pairwise(buckets))


def test_a_retired_versions_series_end_with_it(metrics: EngineMetrics) -> None:
    metrics.finished(finished())
    metrics.probe_failed(NAME)

    metrics.forget(NAME)

    assert not [labels for _, labels in samples(metrics) if NAME in labels]
    assert metrics.hot() == {"1m": 0, "5m": 0, "1h": 0}


def test_hot_adapters_cool_down_window_by_window(metrics: EngineMetrics, clock: Clock) -> None:
    metrics.used("a/a@1")
    clock.now = 100.0
    metrics.used("b/b@1")
    metrics.used("b/b@1")

    assert metrics.hot() == {"1m": 1, "5m": 2, "1h": 2}
    clock.now = 4000.0
    assert metrics.hot() == {"1m": 0, "5m": 0, "1h": 0}


def test_beyond_the_most_adapters_the_rest_share_one_name(
    metrics: EngineMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ADAPTERS", 2)

    for i in range(5):
        metrics.finished(finished(f"t{i}/a@1"))

    shown = samples(metrics)
    assert shown["loraplane_adapter_requests_total", ("other", "stop", "other")] == 3


def test_failures_and_rejections_are_counted_by_reason(metrics: EngineMetrics) -> None:
    metrics.rejected("rate_limit_exceeded")
    metrics.load_failed("shape_mismatch")
    metrics.probe_failed(NAME)
    metrics.snapshot_revision = 17

    shown = samples(metrics)

    assert shown["loraplane_admission_rejections_total", ("rate_limit_exceeded",)] == 1
    assert shown["loraplane_adapter_load_failures_total", ("shape_mismatch",)] == 1
    assert shown["loraplane_adapter_probe_failures_total", (NAME,)] == 1
    assert shown["loraplane_snapshot_revision", ()] == 17
    assert shown["loraplane_adapter_slots", ()] == 3


def test_the_report_joins_loads_and_requests(metrics: EngineMetrics) -> None:
    metrics.facts = WorkerFacts(adapters={"b/b@1": AdapterLoads(loads_disk=2)})
    metrics.finished(finished())

    acme, beta = metrics.counts()

    assert (acme.name, acme.requests, acme.prompt_tokens, acme.loads_disk) == (NAME, 1, 7, 0)
    assert (beta.name, beta.requests, beta.loads_disk) == ("b/b@1", 0, 2)
