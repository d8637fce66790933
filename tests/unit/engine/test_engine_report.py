"""The report says what was counted, and of memory nothing that is not known."""

from __future__ import annotations

from serving.contract import EngineMemory, EngineReport, LoadTimes
from serving.engine.metrics import EngineMetrics
from serving.engine.ports import AdapterLoads, LoadSeconds, MemoryFacts, WorkerFacts
from serving.engine.report import with_counts

NAME = "acme/support@1"
BARE = EngineReport("engine-0", "http://e", "b", "float32", 3, True, 1.0, 8, 64, 16, 2048)


def test_counts_residency_load_times_and_memory_are_taken_over() -> None:
    metrics = EngineMetrics(gpu_slots=8, clock=lambda: 0.0)
    metrics.facts = WorkerFacts(
        adapters={NAME: AdapterLoads(loads_disk=2, failures=1, slot_seconds=1.5)},
        active=(NAME,),
        cached=(NAME, "b/b@1"),
        load_seconds={"disk": LoadSeconds((0.1,), (3, 1), 0.9)},
        memory=MemoryFacts(100, 20, 3000),
    )
    metrics.pinned, metrics.n_trace_events = (NAME,), 17
    metrics.admitted(NAME, 0.0, 0.0)

    report = with_counts(BARE, metrics)

    assert (report.engine_id, report.revision) == ("engine-0", 3)
    (counts,) = report.counts
    assert (counts.name, counts.loads_disk, counts.failures, counts.slot_seconds) == (
        NAME, 2, 1, 1.5,
    )  # fmt: skip
    assert (report.active, report.cached, report.pinned) == ([NAME], [NAME, "b/b@1"], [NAME])
    assert report.load_times == {"disk": LoadTimes(4, 0.9)}
    assert report.memory == EngineMemory(100, 20, 3000)
    assert report.trace_position == 17
    assert report.hot == report.hot_90 == {"1m": 1, "5m": 1, "1h": 1}


def test_memory_that_could_not_be_read_is_absent() -> None:
    metrics = EngineMetrics(gpu_slots=8, clock=lambda: 0.0)

    assert with_counts(BARE, metrics).memory is None
