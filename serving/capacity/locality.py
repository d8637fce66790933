"""Miss-ratio curves of a stream of requests over sliding windows.

Exact up to a number of names; beyond it from a sample of them (see `sampling`), for good.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.capacity.curve import Curve, CurvePoint, make_curve, merge_curves
from serving.capacity.sampling import SampledDistances
from serving.capacity.segments import Windows
from serving.capacity.stack_distance import StackDistances

__all__ = ["Curve", "CurvePoint", "Locality", "make_curve", "merge_curves"]

WINDOW_SECONDS = (300.0, 3600.0, 86400.0)
MAX_NAMES = 16_384
"""Exact to this many adapters. Arbitrary: more than any fleet that it was measured with."""
_FINE_DISTANCES = 1024
"""Of a sample, distances up to here are kept as they are, and further ones by 1 / rate together."""
_EXACT = (0, 0)


@dataclass(slots=True)
class _Histogram:
    """Requests by distance. `counts[k]` are counted among names sampled at a rate of 2^-k."""

    n_requests: int = 0
    n_cold: int = 0
    counts: dict[tuple[int, int], array[int]] = field(default_factory=dict)
    """By (doublings, coarseness), requests by distance. Each stands for 2^doublings requests; an
    index beyond `_FINE_DISTANCES` for 2^coarseness distances."""


class Locality:
    """Stack distances of the requests to one LRU cache, summed over sliding windows.

    Memory: `max_names` names, and for each window 21 histograms of 8 bytes per distance, as long as
    the largest distance or up to twice that: with the defaults 16 MiB, 32 MiB of a sample.
    """

    def __init__(
        self,
        *,
        max_names: int = MAX_NAMES,
        window_seconds: Sequence[float] = WINDOW_SECONDS,
        sample_halvings: int = 0,
    ) -> None:
        """`sample_halvings`: begin with a sample of 2^-sample_halvings of the names."""
        self._stack = StackDistances()
        self._sample: SampledDistances | None = None
        self._max_names = max_names
        self._windows: Windows[_Histogram] = Windows(window_seconds, empty=_Histogram, merge=_merge)
        if sample_halvings:
            self._begin_sampling(sample_halvings)

    @property
    def sample_rate(self) -> float:
        """Share of the seldom used names that is followed; 1.0: exact. It never rises again."""
        return 1.0 if self._sample is None else 0.5**self._sample.halvings

    @property
    def n_followed(self) -> int:
        """Names that are kept in memory."""
        return len(self._stack) if self._sample is None else len(self._sample)

    def access(self, name: str, at: float) -> None:
        """A request for `name`, `at` Unix seconds. About 2 microseconds."""
        windows = self._windows
        histogram = windows.open if at < windows.closes_at else windows.roll(at)
        histogram.n_requests += 1
        if self._sample is not None:
            _count_sampled(histogram, self._sample, name)
            return
        distance = self._stack.access(name)
        if distance is None:
            histogram.n_cold += 1
            if len(self._stack) > self._max_names:
                self._begin_sampling(1)
            return
        try:
            histogram.counts[_EXACT][distance] += 1
        except (KeyError, IndexError):
            _grow(histogram, _EXACT, distance)

    def occupy(self, name: str) -> None:
        """The name was brought in, and is the most recent one, by nobody who shall be counted."""
        if self._sample is not None:
            self._sample.access(name)
            return
        self._stack.access(name)
        if len(self._stack) > self._max_names:
            self._begin_sampling(1)

    def touch(self, name: str, at: float) -> None:
        """The name was in use at `at`: recency alone, no request."""
        names = self._stack if self._sample is None else self._sample
        names.touch(name)

    def forget(self, name: str) -> None:
        """A version that is gone: its next access, if any, is a first one."""
        names = self._stack if self._sample is None else self._sample
        names.forget(name)

    def curve(self, window_seconds: float, now: float) -> Curve:
        """The curve of the last `window_seconds`, right to a segment of 5 % of them.

        Raises:
            KeyError: not one of this object's windows.
        """
        total, seconds = self._windows.total(window_seconds, now)
        weights: dict[int, float] = {}
        for (doublings, coarseness), counts in total.counts.items():
            for index in np.flatnonzero(np.frombuffer(counts, np.uint64)).tolist():
                beyond = max(0, index - _FINE_DISTANCES)
                distance = index - beyond + (beyond << coarseness)
                weights[distance] = weights.get(distance, 0.0) + (counts[index] << doublings)
        return make_curve(
            weights,
            n_requests=total.n_requests,
            n_cold=total.n_cold,
            seconds=seconds,
            n_names=len(self._stack) if self._sample is None else self._sample.n_names,
        )

    def _begin_sampling(self, halvings: int) -> None:
        self._sample = SampledDistances(self._stack, max_names=self._max_names, halvings=halvings)
        self._stack = StackDistances()


def _count_sampled(histogram: _Histogram, sample: SampledDistances, name: str) -> None:
    found = sample.access(name)
    if found is None:
        return
    doublings, distance = found
    if distance is None:
        histogram.n_cold += 1 << doublings
        return
    beyond = max(0, distance - _FINE_DISTANCES)
    index = distance - beyond + (beyond >> sample.halvings)
    key = doublings, sample.halvings
    try:
        histogram.counts[key][index] += 1
    except (KeyError, IndexError):
        _grow(histogram, key, index)


def _grow(histogram: _Histogram, key: tuple[int, int], index: int) -> None:
    counts = histogram.counts.setdefault(key, array("Q"))
    _lengthen(counts, max(index + 1, 2 * len(counts), 64))
    counts[index] += 1


def _merge(into: _Histogram, other: _Histogram) -> None:
    into.n_requests += other.n_requests
    into.n_cold += other.n_cold
    for key, counts in other.counts.items():
        kept = into.counts.setdefault(key, array("Q"))
        _lengthen(kept, len(counts))
        np.frombuffer(kept, np.uint64)[: len(counts)] += np.frombuffer(counts, np.uint64)


def _lengthen(counts: array[int], length: int) -> None:
    if length > len(counts):
        counts.frombytes(bytes(counts.itemsize * (length - len(counts))))
