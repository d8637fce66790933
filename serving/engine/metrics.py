"""What the engine counts per adapter, on its own /metrics. Prefix `loraplane_`.

One collector builds all families when it is scraped: from the worker's exact counts, from finished
requests and from the runtime's state. A retired version's series end with it; `families` has their
form, `series` the bound on their number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from serving.capacity.hot_set import HotSets
from serving.contract import AdapterCounts
from serving.engine.families import (
    add_histogram,
    load_families,
    memory_families,
    request_families,
)
from serving.engine.ports import AdapterLoads, WorkerFacts
from serving.engine.series import OTHER, FinishedRequest, Seconds, SeriesLimit, Tally, add_loads

HOT_WINDOWS = {"1m": 60.0, "5m": 300.0, "1h": 3600.0}
"""Seconds."""
HOT_SHARE = 0.9
"""Of the requests, that a hot set carries."""
PREFETCH_OUTCOMES = ("loaded", "refused", "skipped")
_MAX_ADAPTERS = 500
_NO_LOADS, _NO_REQUESTS = AdapterLoads(), Tally()


class _Reported(NamedTuple):
    """What was last reported of an adapter, and what of."""

    loads: AdapterLoads
    n_changes: int
    counts: AdapterCounts


class EngineMetrics(Collector):
    """Fed with events, asked by Prometheus and by the agent's report; `clock` is monotonic.

    The gate's requests and the probes are nobody's traffic: they are not told to it.
    """

    def __init__(
        self, *, gpu_slots: int, clock: Callable[[], float], max_adapters: int = _MAX_ADAPTERS
    ) -> None:
        self.facts = WorkerFacts()
        """The latest; set by the runtime."""
        self.snapshot_revision = -1
        self.n_trace_events = 0
        self.pinned: tuple[str, ...] = ()
        """Of the wished-for adapters, those that hold a slot."""
        self._gpu_slots, self._clock = gpu_slots, clock
        self.before_reading: Callable[[], None] = lambda: None
        """Has what was noted elsewhere counted here."""
        self._tallies: dict[str, Tally] = {}
        self._last_use: dict[str, float] = {}
        self._reported: dict[str, _Reported] = {}
        self._hot_sets = HotSets(window_seconds=tuple(HOT_WINDOWS.values()))
        self._waits = {"memory": Seconds(), "slot": Seconds()}
        self._rejections: Counter[str] = Counter()
        self._load_failures: Counter[str] = Counter()
        self._probe_failures: Counter[str] = Counter()
        self._probes: Counter[str] = Counter(passed=0, failed=0, unanswered=0)
        self._prefetches: Counter[str] = Counter(dict.fromkeys(PREFETCH_OUTCOMES, 0))
        # An adapter that nobody asks for takes no place among those with requests.
        self._loaded, self._asked = SeriesLimit(max_adapters), SeriesLimit(max_adapters)
        self._gone_loads, self._gone_requests = AdapterLoads(), Tally()
        """Of forgotten versions that had no series of their own: `other` must not fall."""

    def register(self, registry: CollectorRegistry) -> None:
        """Show the families on this registry's /metrics."""
        registry.register(self)

    def finished(self, request: FinishedRequest) -> None:
        """Count one finished request of a tenant."""
        self._tally(request.name).finished(request)
        self._waits["slot"].observe(request.slot_wait_seconds)

    def admitted(self, name: str, asked_at: float, at: float) -> None:
        """A tenant asked for an adapter at `asked_at`; it was in CPU memory `at` this time."""
        self._last_use[name] = at
        self._hot_sets.used(name, at)
        self._waits["memory"].observe(at - asked_at)
        self._tally(name).waited(at - asked_at)

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
        self._probe_failures[self._loaded.label(name)] += 1

    def prefetched(self, outcome: str) -> None:
        """Count a companion that was to be brought into CPU memory; `PREFETCH_OUTCOMES`."""
        self._prefetches[outcome] += 1

    def forget(self, name: str) -> None:
        """End the series of a retired version."""
        self.before_reading()
        loads = self.facts.adapters.get(name)
        if loads is not None:
            if self._loaded.is_other(name):
                self._gone_loads = add_loads(self._gone_loads, loads)
            left = {n: counts for n, counts in self.facts.adapters.items() if n != name}
            self.facts = replace(self.facts, adapters=left)
        tally = self._tallies.pop(name, None)
        if tally is not None and self._asked.is_other(name):
            self._gone_requests.add(tally)
        self._loaded.forget(name)
        self._asked.forget(name)
        for series in (self._last_use, self._probe_failures, self._reported):
            series.pop(name, None)

    def hot(self) -> dict[str, int]:
        """Distinct adapters used within each window."""
        self.before_reading()
        now = self._clock()
        longest = max(HOT_WINDOWS.values())
        self._last_use = {n: at for n, at in self._last_use.items() if now - at <= longest}
        return {
            window: sum(now - at <= seconds for at in self._last_use.values())
            for window, seconds in HOT_WINDOWS.items()
        }

    def hot_90(self) -> dict[str, int]:
        """Size of the smallest set of adapters with `HOT_SHARE` of each window's requests."""
        self.before_reading()
        now = self._clock()
        return {
            window: len(self._hot_sets.covering(HOT_SHARE, seconds, now))
            for window, seconds in HOT_WINDOWS.items()
        }

    def counts(self) -> list[AdapterCounts]:
        """Per adapter, for the report; all of them, whatever the bound on series."""
        self.before_reading()
        names = sorted(self.facts.adapters.keys() | self._tallies)
        # Most have not changed since the last report, and there may be ten thousand of them.
        before, self._reported = self._reported, {}
        for name in names:
            loads = self.facts.adapters.get(name, _NO_LOADS)
            own = self._tallies.get(name, _NO_REQUESTS)
            known = before.get(name)
            if known is None or known.n_changes != own.n_changes or known.loads != loads:
                known = _Reported(loads, own.n_changes, _counts_of(name, loads, own))
            self._reported[name] = known
        return [known.counts for known in self._reported.values()]

    def collect(self) -> Iterator[Metric]:
        """All families, as they are now."""
        self.before_reading()
        yield from load_families(self._shown_loads(), self._shown_in_slot(), self.facts)
        yield from request_families(self._shown_tallies())
        yield from memory_families(self.facts)
        yield from self._state()
        yield from self._counters()

    def _tally(self, name: str) -> Tally:
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = Tally()
        return tally

    def _shown_loads(self) -> dict[str, AdapterLoads]:
        shown: dict[str, AdapterLoads] = {}
        others = self._gone_loads
        for name, loads in self.facts.adapters.items():
            if self._loaded.label(name) == OTHER:
                others = add_loads(others, loads)
            else:
                shown[name] = loads
        return shown if others == AdapterLoads() else {**shown, OTHER: others}

    def _shown_in_slot(self) -> Counter[str]:
        return Counter(self._loaded.label(name) for name in self.facts.active)

    def _shown_tallies(self) -> dict[str, Tally]:
        shown: dict[str, Tally] = {}
        others = Tally()
        others.add(self._gone_requests)
        for name, tally in self._tallies.items():
            if not tally.requests:
                continue
            if self._asked.label(name) == OTHER:
                others.add(tally)
            else:
                shown[name] = tally
        return {**shown, OTHER: others} if others.requests else shown

    def _state(self) -> Iterator[Metric]:
        for name, text, sizes in (
            ("hot_adapters", "Distinct adapters used within a window.", self.hot()),
            ("hot_set_adapters", "Smallest set with 90 % of a window's requests.", self.hot_90()),
        ):
            hot = GaugeMetricFamily(f"loraplane_{name}", text, labels=["window"])
            for window, count in sizes.items():
                hot.add_metric([window], count)
            yield hot
        waits = HistogramMetricFamily(
            "loraplane_adapter_wait_seconds",
            "Wait of a request for its adapter in CPU memory, and in the engine's own queue.",
            labels=["stage"],
        )
        for stage, seconds in self._waits.items():
            add_histogram(waits, [stage], seconds)
        yield waits
        for name, text, value in (
            ("adapter_slots", "Slots of this engine.", self._gpu_slots),
            ("snapshot_revision", "Snapshot whose aliases are followed.", self.snapshot_revision),
            ("pinned_adapters", "Adapters kept in a slot on purpose.", len(self.pinned)),
            (
                "adapter_loads_in_step",
                "Reads from disk inside an engine step, which stall every tenant; 0 is right.",
                self.facts.loads_in_step,
            ),
        ):
            yield GaugeMetricFamily(f"loraplane_{name}", text, value=value)

    def _counters(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "loraplane_trace_events", "Events of the access trace.", value=self.n_trace_events
        )
        for name, text, label, counted in (
            ("admission_rejections", "Requests turned away.", "reason", self._rejections),
            ("adapter_load_failures", "Failed loads.", "reason", self._load_failures),
            ("adapter_probe_failures", "Failed probes.", "adapter", self._probe_failures),
            ("adapter_probes", "Probes at load and on schedule.", "outcome", self._probes),
            ("prefetches", "Companions to bring into memory.", "outcome", self._prefetches),
        ):
            family = CounterMetricFamily(f"loraplane_{name}", text, labels=[label])
            for member, count in counted.items():
                family.add_metric([member], count)
            yield family


def _counts_of(name: str, loads: AdapterLoads, own: Tally) -> AdapterCounts:
    return AdapterCounts(
        name=name,
        loads_disk=loads.loads_disk,
        loads_cache=loads.loads_cache,
        evictions_slot=loads.evictions_slot,
        evictions_cache=loads.evictions_cache,
        requests=own.requests.total(),
        prompt_tokens=own.prompt_tokens,
        completion_tokens=own.completion_tokens,
        removals=loads.removals,
        failures=loads.failures,
        slot_seconds=round(loads.slot_seconds, 3),
        wait_seconds=round(own.wait_seconds, 6),
        ttft=list(own.ttft.counts) if any(own.ttft.counts) else [],
        inter_token=list(own.inter_token.counts) if any(own.inter_token.counts) else [],
    )
