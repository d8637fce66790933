"""Metrics of the steps. Every label value exists from the start, so that rates and alerts work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram

from serving.controller.lifecycle import Verdict

GATE_STAGES = (
    "fetch",
    "reference",
    "runner",
    "load",
    "candidate",
    "live",
    "noise",
    "verify",
    "continue",
    "judge",
    "total",
)
STEPS = ("validate", "evaluate", "stage", "retire", "recheck")

_SECONDS = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


class StepMetrics:
    """Counters and histograms of one controller process, in the registry that it exposes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.gate_verdicts = Counter(
            "loraplane_gate_verdicts_total",
            "Verdicts that the parity gate has reached.",
            ["verdict"],
            registry=registry,
        )
        self.gate_rechecks = Counter(
            "loraplane_gate_rechecks_total",
            "Verdicts on versions in service that were measured again.",
            ["verdict"],
            registry=registry,
        )
        self.gate_seconds = Histogram(
            "loraplane_gate_seconds",
            "Seconds that one stage of the parity gate took.",
            ["stage"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.failures = Counter(
            "loraplane_step_failures_total",
            "Steps that ended in an error nobody expected.",
            ["step"],
            registry=registry,
        )
        for verdict in Verdict:
            self.gate_verdicts.labels(verdict.value)
            self.gate_rechecks.labels(verdict.value)
        for stage in GATE_STAGES:
            self.gate_seconds.labels(stage)
        for step in STEPS:
            self.failures.labels(step)


class Stopwatch:
    """Seconds of one evaluation's stages, for its report and for the histogram."""

    def __init__(self, metrics: StepMetrics) -> None:
        self._histogram = metrics.gate_seconds
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage; one that raises counts too."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = time.perf_counter() - began
            self._histogram.labels(name).observe(self.seconds[name])
