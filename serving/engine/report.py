"""What the engine's counts say, as the controller is told of them."""

from __future__ import annotations

import msgspec

from serving.contract import EngineMemory, EngineReport, LoadTimes
from serving.engine.metrics import EngineMetrics
from serving.engine.ports import MemoryFacts


def with_counts(report: EngineReport, metrics: EngineMetrics) -> EngineReport:
    """The report with everything that was counted until now."""
    facts = metrics.facts
    return msgspec.structs.replace(
        report,
        counts=metrics.counts(),
        active=list(facts.active),
        cached=list(facts.cached),
        hot=metrics.hot(),
        hot_90=metrics.hot_90(),
        pinned=list(metrics.pinned),
        load_times={
            source: LoadTimes(sum(seconds.counts), seconds.total_seconds)
            for source, seconds in facts.load_seconds.items()
        },
        memory=None if facts.memory is None else _memory(facts.memory),
        trace_position=metrics.n_trace_events,
    )


def _memory(facts: MemoryFacts) -> EngineMemory:
    return EngineMemory(facts.slot_bytes, facts.kv_bytes_per_token, facts.kv_tokens)
