"""Builds the metric families of the engine's /metrics from its counts. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from serving.engine.ports import AdapterLoads, WorkerFacts
from serving.engine.series import Seconds, Tally


def load_families(
    loads_of: Mapping[str, AdapterLoads], in_slot: Mapping[str, int], facts: WorkerFacts
) -> Iterator[Metric]:
    """What the worker counted, by the name under which each adapter is shown."""
    loads, evictions, removals = (
        CounterMetricFamily(f"loraplane_adapter_{name}", text, labels=["adapter", label])
        for name, text, label in (
            ("loads", "Brought from disk into memory, and from memory into a slot.", "source"),
            ("evictions", "Left a slot or memory for another adapter.", "level"),
            ("removals", "Taken out on request (removal); loads that failed (failure).", "cause"),
        )
    )
    slot_seconds = CounterMetricFamily(
        "loraplane_adapter_slot_seconds", "Time spent in a slot.", labels=["adapter"]
    )
    for name, counts in loads_of.items():
        loads.add_metric([name, "disk"], counts.loads_disk)
        loads.add_metric([name, "cache"], counts.loads_cache)
        evictions.add_metric([name, "slot"], counts.evictions_slot)
        evictions.add_metric([name, "cache"], counts.evictions_cache)
        removals.add_metric([name, "removal"], counts.removals)
        removals.add_metric([name, "failure"], counts.failures)
        slot_seconds.add_metric([name], counts.slot_seconds)
    held = GaugeMetricFamily("loraplane_adapter_in_slot", "Holds a slot now.", labels=["adapter"])
    for name, count in in_slot.items():
        held.add_metric([name], count)
    seconds = HistogramMetricFamily(
        "loraplane_adapter_load_seconds", "Duration of one load.", labels=["source"]
    )
    for source, found in facts.load_seconds.items():
        buckets = _buckets(found.bounds, found.counts)
        seconds.add_metric([source], buckets, found.total_seconds)
    yield from (loads, evictions, removals, slot_seconds, held, seconds)


def request_families(tallies: Mapping[str, Tally]) -> Iterator[Metric]:
    """Finished requests of tenants, by the name under which each adapter is shown."""
    requests, tokens = (
        CounterMetricFamily(f"loraplane_adapter_{name}", text, labels=["tenant", "adapter", label])
        for name, text, label in (
            ("requests", "Finished requests.", "outcome"),
            ("tokens", "Tokens of finished requests.", "kind"),
        )
    )
    ttft, e2e, inter_token = (
        HistogramMetricFamily(f"loraplane_adapter_{name}_seconds", text, labels=["adapter"])
        for name, text in (
            ("ttft", "Time to the first token."),
            ("e2e", "Time to the last token."),
            ("inter_token", "Mean time between two tokens of an answer."),
        )
    )
    for name, tally in tallies.items():
        tenant = name.partition("/")[0]
        for outcome, count in tally.requests.items():
            requests.add_metric([tenant, name, outcome], count)
        tokens.add_metric([tenant, name, "prompt"], tally.prompt_tokens)
        tokens.add_metric([tenant, name, "completion"], tally.completion_tokens)
        for family, seconds in (
            (ttft, tally.ttft),
            (e2e, tally.e2e),
            (inter_token, tally.inter_token),
        ):
            add_histogram(family, [name], seconds)
    yield from (requests, tokens, ttft, e2e, inter_token)


def memory_families(facts: WorkerFacts) -> Iterator[Metric]:
    """What is resident, and what the slots and the KV cache cost; nothing that is not known."""
    resident = GaugeMetricFamily(
        "loraplane_adapters_resident", "Adapters in a slot, and in memory.", labels=["level"]
    )
    resident.add_metric(["slot"], len(facts.active))
    resident.add_metric(["cache"], len(facts.cached))
    yield resident
    for name, text in (
        ("slot_bytes", "Bytes of one slot, per rank."),
        ("kv_tokens", "Tokens that the KV cache holds."),
        ("kv_bytes_per_token", "Bytes of KV cache per token, per rank."),
    ):
        value = None if facts.memory is None else getattr(facts.memory, name)
        yield GaugeMetricFamily(f"loraplane_{name}", text, value=value)


def add_histogram(family: HistogramMetricFamily, labels: Sequence[str], seconds: Seconds) -> None:
    """Add one histogram's series."""
    family.add_metric(labels, _buckets(seconds.bounds, seconds.counts), seconds.total)


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    total, result = 0, []
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        total += count
        result.append(("+Inf" if math.isinf(bound) else str(bound), float(total)))
    return result
