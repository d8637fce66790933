"""The worker's own counts, kept in memory and published in one small file.

The API process reads the file when it is scraped: counting never waits for the engine's loop and a
scrape never waits for a step. No vLLM here, so that both processes and the tests can use it.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from pathlib import Path

import msgspec

LOAD_SECONDS_BUCKETS = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
"""Upper bounds in seconds; a 20 MB adapter takes 2 to 50 ms, a large one on slow disk seconds."""


class AdapterFacts(msgspec.Struct):
    """Counts of one adapter since the worker started.

    `loads_disk` counts reads from disk into CPU memory, `loads_cache` copies from CPU memory into a
    slot. Evictions are LRU removals; a removal that was asked for is in `removals`.
    """

    loads_disk: int = 0
    loads_cache: int = 0
    evictions_slot: int = 0
    evictions_cache: int = 0
    removals: int = 0
    failures: int = 0
    """Loads that were refused, and copies into a slot that failed."""
    slot_seconds: float = 0.0
    """Time in a slot, without the present stay."""


class Histogram(msgspec.Struct):
    """Non-cumulative bucket counts over `LOAD_SECONDS_BUCKETS` and one overflow bucket."""

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(LOAD_SECONDS_BUCKETS) + 1))
    total_seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Add one load."""
        self.counts[bisect_left(LOAD_SECONDS_BUCKETS, seconds)] += 1
        self.total_seconds += seconds


class MemoryFacts(msgspec.Struct):
    """Allocated by this rank; see `serving.contract.EngineMemory`."""

    slot_bytes: int
    kv_bytes_per_token: int
    kv_tokens: int


class Facts(msgspec.Struct):
    """What one worker knows for certain. `active` and `cached`: least recently used first."""

    gpu_slots: int = 0
    cpu_slots: int = 0
    adapters: dict[str, AdapterFacts] = {}
    active: list[str] = []
    in_slot_since: dict[str, float] = {}
    """By name in a slot: `time.monotonic()` of the worker, one clock for all of a machine's
    processes on Linux."""
    cached: list[str] = []
    load_seconds: dict[str, Histogram] = msgspec.field(
        default_factory=lambda: {"disk": Histogram(), "cache": Histogram()}
    )
    loads_in_step: int = 0
    """Reads from disk inside an engine step: the admission's leases keep this at 0."""

    memory: MemoryFacts | None = None

    def of(self, name: str) -> AdapterFacts:
        """The counts of one adapter, made at first use."""
        return self.adapters.setdefault(name, AdapterFacts())


def publish(facts: Facts, path: Path) -> None:
    """Replace the file in one move, so that a reader sees the old facts or the new ones."""
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(facts))
    temporary.replace(path)


def read_facts(path: Path) -> Facts | None:
    """The last published facts; None before the worker's first publication."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Facts)
    except FileNotFoundError:
        return None
