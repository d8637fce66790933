"""What the engine counts per adapter, on its own /metrics. Prefix `loraplane_`.

One collector builds all families when it is scraped: from the worker's exact counts, from finished
requests and from the runtime's state. A retired version's series end with it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.contract import AdapterCounts
from serving.engine.ports import AdapterLoads, WorkerFacts

HOT_WINDOWS = {"1m": 60.0, "5m": 300.0, "1h": 3600.0}
"""Seconds."""
SECONDS_BOUNDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of TTFT and end-to-end time: from a small GPU model to a busy CPU one."""
MAX_ADAPTERS = 2000
"""Adapters with series of their own; arbitrary, keeps a scrape near 100,000 lines. The rest
share the name `other`, which no tenant or adapter may bear."""
_OTHER = "other"


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One request that the engine finished, from the engine's own statistics."""

    name: str
    """`acme/support@3`."""
    prompt_tokens: int
    completion_tokens: int
    ttft_seconds: float
    """NaN where no token was made."""
    e2e_seconds: float
    outcome: str
    """`stop`, `length`, `abort`, ..."""


class _Seconds:
    """A histogram over `SECONDS_BOUNDS`."""

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        if math.isfinite(seconds):
            self.counts[bisect_left(SECONDS_BOUNDS, seconds)] += 1
            self.total += seconds


@dataclass
class _Adapter:
    requests: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    ttft: _Seconds = field(default_factory=_Seconds)
    e2e: _Seconds = field(default_factory=_Seconds)


class EngineMetrics(Collector):
    """Fed with events, asked by Prometheus and by the agent's report; `clock` is monotonic."""

    def __init__(self, *, gpu_slots: int, clock: Callable[[], float]) -> None:
        self.facts = WorkerFacts()
        """The latest; set by the runtime."""
        self.snapshot_revision = -1
        self._gpu_slots, self._clock = gpu_slots, clock
        self._adapters: dict[str, _Adapter] = {}
        self._last_use: dict[str, float] = {}
        self._rejections: Counter[str] = Counter()
        self._load_failures: Counter[str] = Counter()
        self._probe_failures: Counter[str] = Counter()
        self._probes: Counter[str] = Counter(passed=0, failed=0, unanswered=0)

    def register(self, registry: CollectorRegistry) -> None:
        """Show the families on this registry's /metrics."""
        registry.register(self)

    def finished(self, request: FinishedRequest) -> None:
        """Count one finished request."""
        self.used(request.name)
        adapter = self._adapters.get(self._label(request.name))
        if adapter is None:
            adapter = self._adapters[self._label(request.name)] = _Adapter()
        adapter.requests[request.outcome] += 1
        adapter.prompt_tokens += request.prompt_tokens
        adapter.completion_tokens += request.completion_tokens
        adapter.ttft.observe(request.ttft_seconds)
        adapter.e2e.observe(request.e2e_seconds)

    def used(self, name: str) -> None:
        """Note that an adapter has just been asked for."""
        self._last_use[name] = self._clock()

    def rejected(self, reason: str) -> None:
        """Count a request that was turned away; `reason` is one of our slugs."""
        self._rejections[reason] += 1

    def load_failed(self, reason: str) -> None:
        """Count a failed fetch or load; `reason` is one of our slugs."""
        self._load_failures[reason] += 1

    def probed(self, outcome: Literal["passed", "failed", "unanswered"]) -> None:
        """Count a probe, at load or on schedule; a failed one by `probe_failed`."""
        self._probes[outcome] += 1

    def probe_failed(self, name: str) -> None:
        """Count a failed probe."""
        self.probed("failed")
        self._probe_failures[self._label(name)] += 1

    def forget(self, name: str) -> None:
        """End the series of a retired version."""
        for series in (self._adapters, self._last_use, self._probe_failures):
            series.pop(name, None)

    def hot(self) -> dict[str, int]:
        """Distinct adapters used within each window."""
        now = self._clock()
        longest = max(HOT_WINDOWS.values())
        self._last_use = {n: at for n, at in self._last_use.items() if now - at <= longest}
        return {
            window: sum(now - at <= seconds for at in self._last_use.values())
            for window, seconds in HOT_WINDOWS.items()
        }

    def counts(self) -> list[AdapterCounts]:
        """Per adapter, for the report."""
        return [
            self._counts_of(name) for name in sorted(self.facts.adapters.keys() | self._adapters)
        ]

    def collect(self) -> Iterator[Metric]:
        """All families, as they are now."""
        yield from self._loads()
        yield from self._requests()
        yield from self._state()

    def _label(self, name: str) -> str:
        if name in self._adapters or len(self._adapters) < MAX_ADAPTERS:
            return name
        return _OTHER

    def _counts_of(self, name: str) -> AdapterCounts:
        loads = self.facts.adapters.get(name, AdapterLoads())
        own = self._adapters.get(name, _Adapter())
        return AdapterCounts(
            name=name,
            loads_disk=loads.loads_disk,
            loads_cache=loads.loads_cache,
            evictions_slot=loads.evictions_slot,
            evictions_cache=loads.evictions_cache,
            requests=own.requests.total(),
            prompt_tokens=own.prompt_tokens,
            completion_tokens=own.completion_tokens,
        )

    def _loads(self) -> Iterator[Metric]:
        loads = CounterMetricFamily(
            "loraplane_adapter_loads",
            "Adapters brought from disk into memory, and from memory into a slot.",
            labels=["adapter", "source"],
        )
        evictions = CounterMetricFamily(
            "loraplane_adapter_evictions",
            "Adapters that left a slot or memory for another one.",
            labels=["adapter", "level"],
        )
        for name, counts in list(self.facts.adapters.items())[:MAX_ADAPTERS]:
            loads.add_metric([name, "disk"], counts.loads_disk)
            loads.add_metric([name, "cache"], counts.loads_cache)
            evictions.add_metric([name, "slot"], counts.evictions_slot)
            evictions.add_metric([name, "cache"], counts.evictions_cache)
        yield loads
        yield evictions
        seconds = HistogramMetricFamily(
            "loraplane_adapter_load_seconds", "Duration of one load.", labels=["source"]
        )
        for source, found in self.facts.load_seconds.items():
            buckets = _buckets(found.bounds, found.counts)
            seconds.add_metric([source], buckets, found.total_seconds)
        yield seconds

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "loraplane_adapter_requests",
            "Finished requests.",
            labels=["tenant", "adapter", "outcome"],
        )
        tokens = CounterMetricFamily(
            "loraplane_adapter_tokens",
            "Tokens of finished requests.",
            labels=["tenant", "adapter", "kind"],
        )
        ttft = HistogramMetricFamily(
            "loraplane_adapter_ttft_seconds", "Time to the first token.", labels=["adapter"]
        )
        e2e = HistogramMetricFamily(
            "loraplane_adapter_e2e_seconds", "Time to the last token.", labels=["adapter"]
        )
        for name, adapter in self._adapters.items():
            tenant = name.partition("/")[0]
            for outcome, count in adapter.requests.items():
                requests.add_metric([tenant, name, outcome], count)
            tokens.add_metric([tenant, name, "prompt"], adapter.prompt_tokens)
            tokens.add_metric([tenant, name, "completion"], adapter.completion_tokens)
            for family, seconds in ((ttft, adapter.ttft), (e2e, adapter.e2e)):
                family.add_metric([name], _buckets(SECONDS_BOUNDS, seconds.counts), seconds.total)
        yield from (requests, tokens, ttft, e2e)

    def _state(self) -> Iterator[Metric]:
        resident = GaugeMetricFamily(
            "loraplane_adapters_resident", "Adapters in a slot, and in memory.", labels=["level"]
        )
        resident.add_metric(["slot"], len(self.facts.active))
        resident.add_metric(["cache"], len(self.facts.cached))
        yield resident
        hot = GaugeMetricFamily(
            "loraplane_hot_adapters", "Distinct adapters used within a window.", labels=["window"]
        )
        for window, count in self.hot().items():
            hot.add_metric([window], count)
        yield hot
        for name, text, value in (
            ("adapter_slots", "Slots of this engine.", self._gpu_slots),
            ("snapshot_revision", "Snapshot whose aliases are followed.", self.snapshot_revision),
            (
                "adapter_loads_in_step",
                "Reads from disk inside an engine step, which stall every tenant; 0 is right.",
                self.facts.loads_in_step,
            ),
        ):
            yield GaugeMetricFamily(f"loraplane_{name}", text, value=value)
        for name, text, label, counted in (
            ("admission_rejections", "Requests turned away.", "reason", self._rejections),
            ("adapter_load_failures", "Failed loads.", "reason", self._load_failures),
            ("adapter_probe_failures", "Failed probes.", "adapter", self._probe_failures),
            ("adapter_probes", "Probes at load and on schedule.", "outcome", self._probes),
        ):
            family = CounterMetricFamily(f"loraplane_{name}", text, labels=[label])
            for member, count in counted.items():
                family.add_metric([member], count)
            yield family


def _buckets(
    bounds: tuple[float, ...], counts: tuple[int, ...] | list[int]
) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    total, result = 0, []
    for bound, count in zip((*bounds, math.inf), counts, strict=True):
        total += count
        result.append(("+Inf" if math.isinf(bound) else str(bound), float(total)))
    return result
