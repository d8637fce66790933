"""One engine's report as the capacity API shows it. Pure."""

from __future__ import annotations

import heapq

import msgspec

from serving.contract import AdapterCounts, EngineReport
from serving.controller.capacity.plan_view import load_seconds
from serving.controller.capacity.schemas import (
    CurveOut,
    EngineCapacityOut,
    LoadSecondsOut,
    MemoryOut,
    TraceOut,
)

MAX_ADAPTERS = 1000
"""Most counts shown per engine; `/v1/capacity/adapters` pages through all."""


def engine_view(
    report: EngineReport,
    *,
    trace: TraceOut | None = None,
    curve: CurveOut | None = None,
    n_adapters: int = MAX_ADAPTERS,
) -> EngineCapacityOut:
    """Slots, residency, counts and memory as the engine reported them, with its trace's curve.

    `n_adapters`: so many adapters' counts are listed, the busiest; the sums are over all.
    """
    sums = {name: sum(getattr(count, name) for count in report.counts) for name in _SUMS}
    unread = TraceOut(
        position=report.trace_position, next=None, lag_events=None, lost_events=0, error=None
    )
    return EngineCapacityOut(
        engine=report.engine_id,
        gpu_slots=report.gpu_slots,
        cpu_slots=report.cpu_slots,
        max_rank=report.max_rank,
        active=report.active,
        cached=report.cached,
        pinned=report.pinned,
        hot=report.hot,
        hot_90=report.hot_90,
        **sums,
        adapters=[msgspec.to_builtins(count) for count in _busiest(report.counts, n_adapters)],
        memory=_memory(report),
        load_seconds=LoadSecondsOut(**load_seconds([report])),
        trace=trace or unread,
        curve=curve,
    )


_SUMS = (
    "loads_disk", "loads_cache", "evictions_slot", "evictions_cache", "removals", "failures",
)  # fmt: skip


def _busiest(counts: list[AdapterCounts], n: int) -> list[AdapterCounts]:
    return heapq.nsmallest(n, counts, key=lambda count: (-count.requests, count.name))


def _memory(report: EngineReport) -> MemoryOut | None:
    memory = report.memory
    return None if memory is None else MemoryOut(**msgspec.to_builtins(memory))
