"""Engines in miniature: LRU slots over an LRU cache, with counts, traces and samples. No clock."""

from __future__ import annotations

import bisect
import itertools
import random
from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from serving.contract import (
    INTER_TOKEN_BOUNDS_SECONDS,
    TTFT_BOUNDS_SECONDS,
    AdapterCounts,
    EngineMemory,
    EngineReport,
    LoadTimes,
    TraceEvent,
    TraceKind,
    VersionReport,
    VersionState,
)
from tests.builders.controller import a_report
from tests.builders.registry import digest_of

TENANTS = ("acme", "globex", "hooli", "initech", "stark", "umbrella")
PURPOSES = ("support", "sql", "triage", "summaries", "tickets", "contracts", "reviews")
LOAD_SECONDS = {"disk": 0.62, "cache": 0.048}


def names_of(n: int) -> list[str]:
    """`n` versions' names; every fifth is a second version."""
    pairs = [*itertools.product(PURPOSES, TENANTS)]
    names = []
    for at in range(n):
        round_, place = divmod(at, len(pairs))
        purpose, tenant = pairs[place]
        names.append(f"{tenant}/{purpose}{round_ or ''}@{2 if at % 5 == 0 else 1}")
    return names


@dataclass
class LruEngine:
    """What one engine would have counted; `use` is one request."""

    engine_id: str
    gpu_slots: int = 8
    cpu_slots: int = 24
    seed: int = 7
    slots: OrderedDict[str, None] = field(default_factory=OrderedDict)
    cache: OrderedDict[str, None] = field(default_factory=OrderedDict)
    counts: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[TraceEvent] = field(default_factory=list)
    loads: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def use(self, name: str, at: float) -> None:
        """One request, served at once; its two events are in the trace."""
        source = self._hold(name)
        prompt, answer = self._random.randint(80, 600), self._random.randint(20, 220)
        wait = LOAD_SECONDS[source] if source else 0.0
        first = self._random.lognormvariate(-2.2, 0.5) + wait
        own = self._of(name)
        own["requests"] += 1
        own["prompt_tokens"] += prompt
        own["completion_tokens"] += answer
        own["wait_seconds"] += wait
        own["slot_seconds"] += 4.0
        own["ttft"][bisect.bisect_left(TTFT_BOUNDS_SECONDS, first)] += 1
        pace = self._random.lognormvariate(-3.6, 0.4)
        own["inter_token"][bisect.bisect_left(INTER_TOKEN_BOUNDS_SECONDS, pace)] += 1
        place = len(self.events)
        self.events += [
            TraceEvent(place, at, TraceKind.ADMITTED, name, place),
            TraceEvent(
                place + 1, at + 0.01, TraceKind.FINISHED, name, place, prompt, answer, first
            ),
        ]

    def report(self, versions: list[str], **changes: Any) -> EngineReport:
        """The engine's report of all that it counted; it holds `versions` proven."""
        proven = [VersionReport(name, digest_of(name), VersionState.PROVEN) for name in versions]
        given: dict[str, Any] = {
            "gpu_slots": self.gpu_slots,
            "cpu_slots": self.cpu_slots,
            "versions": proven,
            "counts": [AdapterCounts(name, **own) for name, own in self.counts.items()],
            "active": list(self.slots),
            "cached": list(self.cache),
            "hot": {"1m": 9, "5m": 17, "1h": len(self.counts)},
            "hot_90": {"1m": 6, "5m": 11, "1h": 19},
            "load_times": {
                source: LoadTimes(n, n * LOAD_SECONDS[source]) for source, n in self.loads.items()
            },
            "memory": EngineMemory(27_262_976, kv_bytes_per_token=24_576, kv_tokens=61_440),
            "trace_position": len(self.events),
        }  # fmt: skip
        return a_report(self.engine_id, **{**given, **changes})

    def _hold(self, name: str) -> str | None:
        """Bring it into a slot; where it came from, None: it was there."""
        if name in self.slots:
            self.slots.move_to_end(name)
            self.cache.move_to_end(name)
            return None
        source = "cache" if name in self.cache else "disk"
        self.loads[source] += 1
        self._of(name)[f"loads_{source}"] += 1
        self.cache[name] = self.slots[name] = None
        self.cache.move_to_end(name)
        if len(self.slots) > self.gpu_slots:
            self._of(self.slots.popitem(last=False)[0])["evictions_slot"] += 1
        if len(self.cache) > self.cpu_slots:
            self._of(self.cache.popitem(last=False)[0])["evictions_cache"] += 1
        return source

    def _of(self, name: str) -> dict[str, Any]:
        return self.counts.setdefault(
            name,
            {
                **dict.fromkeys(
                    ("requests", "prompt_tokens", "completion_tokens", "loads_disk", "loads_cache",
                     "evictions_slot", "evictions_cache"), 0,
                ),
                "wait_seconds": 0.0,
                "slot_seconds": 0.0,
                "ttft": [0] * (len(TTFT_BOUNDS_SECONDS) + 1),
                "inter_token": [0] * (len(INTER_TOKEN_BOUNDS_SECONDS) + 1),
            },
        )  # fmt: skip


def zipf_hour(
    names: list[str], *, start: float, seconds: float, n_requests: int, seed: int = 11
) -> Iterator[tuple[float, str]]:
    """(time, name) of requests: few adapters carry most, and in the last third others do."""
    rng = random.Random(seed)
    weights = [1 / (rank + 1) ** 1.1 for rank in range(len(names))]
    times = sorted(start + rng.random() * seconds for _ in range(n_requests))
    turned = names[5:] + names[:5]
    for at in times:
        is_late = at > start + seconds * 2 / 3
        yield at, rng.choices(turned if is_late else names, weights)[0]
