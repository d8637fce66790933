"""What was measured at each number of adapters, as figures and goals of a result. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.control_plane.fit import PowerFit, fit_power
from bench.result import Better, Figure, Goal

_MEASURES: dict[str, tuple[str, Better | None]] = {
    "promotion p50": ("ms", "lower"),
    "promotion p99": ("ms", "lower"),
    "CPU per promotion": ("ms", "lower"),
    "CPU at rest": ("ms/s", "lower"),
    "memory": ("MB", "lower"),
    "whole snapshot": ("kB", None),
    "sent to an agent per promotion": ("kB", "lower"),
    "database": ("MB", None),
    "database per upload": ("kB", "lower"),
    "uploads": ("versions/s", "higher"),
    "upload rate": ("MB/s", "higher"),
    "disk's limit": ("MB/s", None),
    "upload rate to disk's limit": ("x", "higher"),
    "agents' CPU per promotion": ("ms", None),
    "failed requests": ("", "lower"),
}
_COSTS = (
    "promotion p50",
    "CPU per promotion",
    "CPU at rest",
    "memory",
    "whole snapshot",
    "sent to an agent per promotion",
    "database",
    "database per upload",
)
"""What must not grow faster than the number of adapters."""
PROMOTION_SECONDS = 1.0
"""What a promotion may take at p99."""


@dataclass
class SizeResult:
    """All runs with one number of adapters."""

    n: int
    promotions: list[list[list[float]]] = field(default_factory=list)
    """By run: seconds until the first, the median and the last agent followed, of each."""
    measured: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        """Keep one run's value."""
        self.measured.setdefault(name, []).append(float(value))

    def values(self, name: str) -> list[float]:
        """One per run."""
        if name == "promotion p50":
            return [1000 * quantile(_last(run), 0.5) for run in self.promotions]
        if name == "promotion p99":
            return [1000 * quantile(_last(run), 0.99) for run in self.promotions]
        return self.measured.get(name, [])

    def median(self, name: str) -> float:
        """Of the runs; NaN without one."""
        found = self.values(name)
        return statistics.median(found) if found else math.nan

    def pooled(self) -> list[float]:
        """Seconds to the last agent, of all promotions of all runs."""
        return [seconds for run in self.promotions for seconds in _last(run)]


def _last(run: Sequence[Sequence[float]]) -> list[float]:
    return [seconds[-1] for seconds in run]


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least a share `q` of the values does not exceed; NaN without."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else math.nan


def describe(results: Sequence[SizeResult]) -> list[str]:
    """Names of what was measured, in the order in which they are shown."""
    return [name for name in _MEASURES if all(result.values(name) for result in results)]


def figures_of(results: Sequence[SizeResult]) -> list[Figure]:
    """One row per number of adapters; p99 over all runs together beside the runs' own."""
    figures = []
    for result in results:
        group = f"{result.n:,} adapters"
        for name in describe([result]):
            unit, better = _MEASURES[name]
            figures.append(Figure(name, unit, tuple(result.values(name)), better, group))
        pooled = (1000 * quantile(result.pooled(), 0.99),)
        figures.append(Figure("promotion p99 of all runs", "ms", pooled, "lower", group))
    for name, fit in fits_of(results).items():
        values = (fit.low, fit.exponent, fit.high)
        figures.append(Figure(f"{name}, exponent (low, fit, high)", "", values, "lower", "growth"))
    return figures


def fits_of(results: Sequence[SizeResult]) -> dict[str, PowerFit]:
    """How each cost grows with the number of adapters, over all runs."""
    found = {}
    for name in _COSTS:
        fit = fit_power([(result.n, v) for result in results for v in result.values(name)])
        if fit is not None:
            found[name] = fit
    return found


def goals_of(results: Sequence[SizeResult], *, n_agents: int) -> list[Goal]:
    """A promotion's time with the most adapters, and how costs grow."""
    largest = max(results, key=lambda result: result.n)
    seconds = quantile(largest.pooled(), 0.99)
    goals = [
        Goal(
            f"promotion reaches {n_agents} agents, {largest.n:,} adapters",
            f"p99 under {PROMOTION_SECONDS:g} s",
            f"{seconds:.3f} s (of {len(largest.pooled())})",
            seconds < PROMOTION_SECONDS,
        )
    ]
    goals += [
        Goal(f"growth of {name}", "exponent at most 1", str(fit), fit.is_at_most_linear)
        for name, fit in fits_of(results).items()
    ]
    return goals
