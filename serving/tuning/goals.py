"""What a search shall reach: one figure to make better, and bounds that others must keep. Pure.

Everything is compared as the logarithm of a ratio, so that 100 ms to 50 ms weighs as much as 10 s
to 5 s, and so that a loss of 11 % means the same at every load.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

Values = Mapping[str, float]

THROUGHPUT = "throughput"
CAPACITY = "capacity"
METRICS: Mapping[str, str] = MappingProxyType(
    {
        "gap_p50": "ms",
        "gap_p99": "ms",
        "gap_max": "ms",
        "ttft_p50": "ms",
        "ttft_p99": "ms",
        "e2e_p50": "ms",
        "e2e_p99": "ms",
        THROUGHPUT: "tokens/s",
        CAPACITY: "tokens/s",
    }
)
"""What each round gives, with units. `throughput` is at the offered load, `capacity` with all
requests due at once; the others are of the class that the search looks at."""
_HIGHER = (THROUGHPUT, CAPACITY)


class GoalInvalid(ValueError):
    """A goal or bound that cannot be meant."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A limit of one figure. `limit` is in the figure's unit, or a share of loss if relative."""

    metric: str
    limit: float
    is_relative: bool = False

    @property
    def text(self) -> str:
        """As a person would say it."""
        if self.is_relative:
            return f"{self.metric} at most {100 * self.limit:g} % worse than the start's"
        side = "at least" if self.metric in _HIGHER else "at most"
        return f"{self.metric} {side} {self.limit:g} {METRICS[self.metric]}"

    def excess(self, values: Values, start: Values) -> float:
        """Logarithm of how far over the limit a round is; 0 or less keeps it, nan: not measured."""
        value = values.get(self.metric, math.nan)
        if self.is_relative:
            first = start.get(self.metric, math.nan)
            worse = loss(self.metric, value) - loss(self.metric, first)
            allowed = 1 - self.limit if self.metric in _HIGHER else 1 / (1 + self.limit)
            return worse + math.log(allowed)
        return loss(self.metric, value) - loss(self.metric, self.limit)


@dataclass(frozen=True, slots=True)
class Goals:
    """The figure to make better, and the bounds to keep."""

    metric: str
    bounds: tuple[Bound, ...] = ()
    kind: str | None = None
    """The class of requests whose latencies count; None: all."""

    def __post_init__(self) -> None:
        for metric in (self.metric, *(bound.metric for bound in self.bounds)):
            if metric not in METRICS:
                raise GoalInvalid(f"{metric!r} is not one of {', '.join(METRICS)}")
        for bound in self.bounds:
            if not bound.limit > 0 or (bound.is_relative and bound.limit >= 1):
                raise GoalInvalid(f"{bound.limit:g} is no limit for {bound.metric}")

    @property
    def text(self) -> str:
        """One sentence."""
        of = f" of {self.kind} requests" if self.kind else ""
        best = "highest" if self.metric in _HIGHER else "lowest"
        kept = "; ".join(bound.text for bound in self.bounds) or "no bounds"
        return f"{best} {self.metric}{of}, with {kept}"


def loss(metric: str, value: float) -> float:
    """The logarithm of a figure, so turned that less is better; nan of what has none."""
    if not value > 0 or math.isinf(value):
        return math.nan
    return -math.log(value) if metric in _HIGHER else math.log(value)


def is_higher_better(metric: str) -> bool:
    """Whether more of a figure is better."""
    return metric in _HIGHER
