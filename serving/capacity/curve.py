"""A miss-ratio curve: how many of the requests miss at each slot count."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

_EVERY_SLOT_TO = 256
_STEP = 1.05
"""Beyond, neighbouring points are about 5 % apart: more cannot be seen in a figure."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One slot count; None where there is nothing to divide by."""

    slots: int
    miss_ratio: float | None
    loads_per_minute: float | None


@dataclass(frozen=True, slots=True)
class Curve:
    """Misses of an LRU cache at every size, for the requests of one stretch of time.

    Build it with `make_curve`. Of a sampled trace all numbers are estimates.
    """

    n_requests: int
    n_cold: int
    """First uses: they miss at every size."""
    seconds: float
    """Time that the requests are spread over; at most a little more than the window asked for."""
    n_names: int
    """Names in use and not forgotten, also from before the window."""
    distances: tuple[int, ...] = ()
    """Distances that occurred, ascending."""
    beyond: tuple[float, ...] = ()
    """Requests, first uses included, at a distance of more than the one at the same place."""

    def misses(self, slots: int) -> int:
        """Requests that miss with so many slots; with none all of them do."""
        place = bisect_right(self.distances, slots)
        if slots < 1 or (place == 0 and self.distances):
            return self.n_requests
        return round(self.beyond[place - 1]) if place else self.n_cold

    def miss_ratio(self, slots: int) -> float | None:
        """Share of requests that miss; None without requests."""
        return self.misses(slots) / self.n_requests if self.n_requests else None

    def loads_per_minute(self, slots: int) -> float | None:
        """Misses per minute; None when no time has passed."""
        return 60 * self.misses(slots) / self.seconds if self.seconds > 0 else None

    def smallest_slots(self, max_misses: float) -> int | None:
        """Fewest slots with at most so many misses; None when even endless ones have more."""
        if self.n_cold > max_misses:
            return None
        if self.n_requests <= max_misses:
            return 0
        for distance, misses in zip(self.distances, self.beyond, strict=True):
            if round(misses) <= max_misses:
                return distance
        return self.distances[-1] if self.distances else 0

    def points(self, max_slots: int) -> list[CurvePoint]:
        """Every slot count from 1 to 256, then about 5 % apart, and `max_slots` itself."""
        sizes = list(range(1, min(max_slots, _EVERY_SLOT_TO) + 1))
        while sizes and sizes[-1] < max_slots:
            sizes.append(min(max_slots, int(sizes[-1] * _STEP) + 1))
        return [
            CurvePoint(size, self.miss_ratio(size), self.loads_per_minute(size)) for size in sizes
        ]


def make_curve(
    weights: Mapping[int, float], *, n_requests: int, n_cold: float, seconds: float, n_names: int
) -> Curve:
    """A curve from the weight of requests at each distance.

    With sampling the weights need not add up to the requests. What lacks is taken as requests at
    distance 1, and what is too much away from the smallest distances (SHARDS-adj): it is the hot
    names that a sample by names has too seldom or too often.
    """
    lacking = n_requests - n_cold - sum(weights.values())
    if lacking > 0:
        weights = {**weights, 1: weights.get(1, 0.0) + lacking}
    distances = sorted(weights)
    sums = list(accumulate((weights[distance] for distance in reversed(distances)), initial=n_cold))
    return Curve(
        n_requests=n_requests,
        n_cold=min(n_requests, round(n_cold)),
        seconds=seconds,
        n_names=n_names,
        distances=tuple(distances),
        beyond=tuple(min(float(n_requests), total) for total in reversed(sums[:-1])),
    )


def merge_curves(curves: Sequence[Curve]) -> Curve:
    """The curve of several engines together: each has so many slots, their misses add up."""
    weights: dict[int, float] = {}
    n_cold = 0.0
    for curve in curves:
        n_cold += curve.n_cold
        before = float(curve.n_requests)
        for distance, misses in zip(curve.distances, curve.beyond, strict=True):
            weights[distance] = weights.get(distance, 0.0) + before - misses
            before = misses
    return make_curve(
        weights,
        n_requests=sum(curve.n_requests for curve in curves),
        n_cold=n_cold,
        seconds=max((curve.seconds for curve in curves), default=0.0),
        n_names=sum(curve.n_names for curve in curves),
    )
