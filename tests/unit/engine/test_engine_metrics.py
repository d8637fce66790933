"""What the engine tells Prometheus and the controller about adapters."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.contract import INTER_TOKEN_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS
from serving.engine.metrics import EngineMetrics
from serving.engine.ports import AdapterLoads, LoadSeconds, MemoryFacts, WorkerFacts
from serving.engine.series import FinishedRequest

NAME = "acme/support@1"
PUBLIC_NAMES = {
    "loraplane_adapter_loads", "loraplane_adapter_load_seconds", "loraplane_adapter_evictions",
    "loraplane_adapters_resident", "loraplane_adapter_slots", "loraplane_adapter_requests",
    "loraplane_adapter_tokens", "loraplane_adapter_ttft_seconds", "loraplane_adapter_e2e_seconds",
    "loraplane_hot_adapters", "loraplane_admission_rejections", "loraplane_snapshot_revision",
    "loraplane_adapter_load_failures", "loraplane_adapter_probe_failures",
    "loraplane_adapter_loads_in_step", "loraplane_adapter_probes", "loraplane_adapter_removals",
    "loraplane_adapter_slot_seconds", "loraplane_adapter_in_slot",
    "loraplane_adapter_inter_token_seconds", "loraplane_adapter_wait_seconds",
    "loraplane_hot_set_adapters", "loraplane_slot_bytes", "loraplane_kv_tokens",
    "loraplane_kv_bytes_per_token", "loraplane_pinned_adapters", "loraplane_prefetches",
    "loraplane_trace_events",
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
    metrics.admitted("a/a@1", clock.now, clock.now)
    clock.now = 100.0
    metrics.admitted("b/b@1", clock.now, clock.now)
    metrics.admitted("b/b@1", clock.now, clock.now)

    assert metrics.hot() == {"1m": 1, "5m": 2, "1h": 2}
    clock.now = 4000.0
    assert metrics.hot() == {"1m": 0, "5m": 0, "1h": 0}


def test_ten_thousand_adapters_give_a_bounded_page(clock: Clock) -> None:
    """500 adapters with every series: 26,800 lines; what is beyond shares the name `other`."""
    metrics = EngineMetrics(gpu_slots=64, clock=clock)
    names = [f"t{i % 997}/a{i}@1" for i in range(10_000)]
    for name in names:
        metrics.admitted(name, clock.now - 0.1, clock.now)
        metrics.finished(finished(name, inter_token_seconds=0.01, slot_wait_seconds=0.1))
        metrics.probe_failed(name)
    metrics.facts = WorkerFacts(
        adapters={name: AdapterLoads(2, 3, 1, 1, 1, 1, 5.0) for name in names},
        active=tuple(names[-64:]),
        cached=tuple(names[-256:]),
        load_seconds={"disk": LoadSeconds((0.01, 0.1), (2, 1, 1), 0.7)},
        memory=MemoryFacts(1, 2, 3),
    )
    registry = CollectorRegistry()
    metrics.register(registry)

    text = generate_latest(registry).decode()
    shown = samples(metrics)

    assert len(text.splitlines()) <= 27_000
    assert shown["loraplane_adapter_requests_total", ("other", "stop", "other")] == 9_500
    assert shown["loraplane_adapter_loads_total", ("other", "disk")] == 2 * 9_500
    assert shown["loraplane_adapter_in_slot", ("other",)] == 64
    assert len(metrics.counts()) == 10_000


def test_what_is_counted_for_the_others_never_falls(clock: Clock) -> None:
    metrics = EngineMetrics(gpu_slots=3, clock=clock, max_adapters=2)
    names = [f"t/a{i}@1" for i in range(5)]
    for name in names:
        metrics.finished(finished(name))
    metrics.facts = WorkerFacts(adapters={name: AdapterLoads(loads_disk=1) for name in names})
    before = samples(metrics)

    for name in (names[0], names[4]):
        metrics.forget(name)
    metrics.finished(finished("t/new@1"))
    after = samples(metrics)

    requests, loads = "loraplane_adapter_requests_total", "loraplane_adapter_loads_total"
    assert before[requests, ("other", "stop", "other")] == 3
    assert after[requests, ("other", "stop", "other")] == 3
    assert (before[loads, ("other", "disk")], after[loads, ("other", "disk")]) == (3, 3)
    assert after[requests, ("t/new@1", "stop", "t")] == 1
    assert not [labels for _, labels in after if names[0] in labels]


def test_a_name_without_requests_takes_no_place_among_those_with_some(clock: Clock) -> None:
    metrics = EngineMetrics(gpu_slots=3, clock=clock, max_adapters=1)
    metrics.facts = WorkerFacts(adapters={"t/idle@1": AdapterLoads(loads_disk=1)})
    samples(metrics)

    metrics.finished(finished())

    assert samples(metrics)["loraplane_adapter_requests_total", (NAME, "stop", "acme")] == 1


def test_the_gauges_of_slots_and_memory_are_there_when_they_are_known(
    metrics: EngineMetrics,
) -> None:
    assert ("loraplane_slot_bytes", ()) not in samples(metrics)

    metrics.facts = WorkerFacts(
        adapters={NAME: AdapterLoads(removals=2, failures=1, slot_seconds=7.5)},
        active=(NAME,),
        memory=MemoryFacts(slot_bytes=1000, kv_bytes_per_token=64, kv_tokens=4096),
    )
    metrics.pinned, metrics.n_trace_events = (NAME,), 9
    metrics.prefetched("loaded")

    shown = samples(metrics)
    assert shown["loraplane_adapter_removals_total", (NAME, "removal")] == 2
    assert shown["loraplane_adapter_removals_total", (NAME, "failure")] == 1
    assert shown["loraplane_adapter_slot_seconds_total", (NAME,)] == 7.5
    assert shown["loraplane_adapter_in_slot", (NAME,)] == 1
    assert shown["loraplane_slot_bytes", ()] == 1000
    assert shown["loraplane_kv_bytes_per_token", ()] == 64
    assert shown["loraplane_kv_tokens", ()] == 4096
    assert shown["loraplane_pinned_adapters", ()] == 1
    assert shown["loraplane_trace_events_total", ()] == 9
    assert shown["loraplane_prefetches_total", ("loaded",)] == 1


def test_waits_are_shown_by_stage_and_summed_per_adapter(metrics: EngineMetrics) -> None:
    metrics.admitted(NAME, 0.0, 0.3)
    metrics.finished(finished(inter_token_seconds=0.02, slot_wait_seconds=0.2))
    metrics.finished(finished(inter_token_seconds=math.nan))

    shown = samples(metrics)
    (counts,) = metrics.counts()

    assert shown["loraplane_adapter_wait_seconds_sum", ("memory",)] == 0.3
    assert shown["loraplane_adapter_wait_seconds_count", ("slot",)] == 1
    assert shown["loraplane_adapter_inter_token_seconds_count", (NAME,)] == 1
    assert counts.wait_seconds == pytest.approx(0.5)
    assert (len(counts.ttft), sum(counts.ttft)) == (len(TTFT_BOUNDS_SECONDS) + 1, 2)
    assert counts.inter_token[INTER_TOKEN_BOUNDS_SECONDS.index(0.02)] == 1


def test_the_hot_set_is_the_smallest_that_carries_nine_of_ten_requests(
    metrics: EngineMetrics,
) -> None:
    for name, count in (("a/a@1", 80), ("b/b@1", 12), ("c/c@1", 8)):
        for _ in range(count):
            metrics.admitted(name, 0.0, 0.0)

    assert metrics.hot_90() == {"1m": 2, "5m": 2, "1h": 2}
    assert metrics.hot() == {"1m": 3, "5m": 3, "1h": 3}
    assert samples(metrics)["loraplane_hot_set_adapters", ("1m",)] == 2


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
