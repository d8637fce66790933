"""Miss-ratio curves of a stream of requests over sliding windows, exact or by spatial sampling.

Sampling: SHARDS (Waldspurger et al., "Efficient MRC construction with SHARDS", FAST 2015). A name
belongs to the sample when its hash is below a threshold; a distance among sampled names, divided by
the rate, estimates the real one. The rate is halved whenever the sample outgrows `max_names`.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from serving.capacity.curve import Curve, CurvePoint, make_curve, merge_curves
from serving.capacity.segments import Windows
from serving.capacity.stack_distance import StackDistances

__all__ = ["Curve", "CurvePoint", "Locality", "make_curve", "merge_curves"]

WINDOW_SECONDS = (300.0, 3600.0, 86400.0)
MAX_NAMES = 16_384
"""Exact to this many adapters. Arbitrary: more than any fleet that it was measured with."""
_HASH_BITS = 64


@dataclass(slots=True)
class _Histogram:
    """Requests by distance. `counts[k]` are counted among names sampled at a rate of 2^-k."""

    n_requests: int = 0
    n_cold: int = 0
    counts: dict[int, array[int]] = field(default_factory=dict)


class Locality:
    """Stack distances of the requests to one LRU cache, summed over sliding windows.

    Memory: at most `max_names` names, and per window 21 histograms of 8 bytes for each distance up
    to the largest that occurred, so at most 8 MiB with the defaults.
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
        self._max_names = max_names
        self._halvings = sample_halvings
        self._windows: Windows[_Histogram] = Windows(window_seconds, empty=_Histogram, merge=_merge)

    @property
    def sample_rate(self) -> float:
        """Share of the names that is followed; 1.0: exact. It never rises again."""
        return 0.5**self._halvings

    def access(self, name: str, at: float) -> None:
        """A request for `name`, `at` Unix seconds. About 2 microseconds."""
        windows = self._windows
        histogram = windows.open if at < windows.closes_at else windows.roll(at)
        histogram.n_requests += 1
        if self._halvings and name not in self._stack and not self._is_sampled(name):
            return
        distance = self._stack.access(name)
        if distance is None:
            histogram.n_cold += 1 << self._halvings
            if len(self._stack) > self._max_names:
                self._halve()
            return
        try:
            histogram.counts[self._halvings][distance] += 1
        except (KeyError, IndexError):
            _grow(histogram, self._halvings, distance)

    def touch(self, name: str, at: float) -> None:
        """The name was in use at `at`: recency alone, no request."""
        self._stack.touch(name)

    def forget(self, name: str) -> None:
        """A version that is gone: its next access, if any, is a first one."""
        self._stack.forget(name)

    def curve(self, window_seconds: float, now: float) -> Curve:
        """The curve of the last `window_seconds`, right to a segment of 5 % of them.

        Raises:
            KeyError: not one of this object's windows.
        """
        total, seconds = self._windows.total(window_seconds, now)
        weights: dict[int, float] = {}
        for halvings, counts in total.counts.items():
            for index in np.flatnonzero(np.frombuffer(counts, np.uint64)).tolist():
                # Of the names between, a share was seen; the name itself was seen for sure.
                distance = 1 + ((index - 1) << halvings)
                weights[distance] = weights.get(distance, 0.0) + (counts[index] << halvings)
        return make_curve(
            weights,
            n_requests=total.n_requests,
            n_cold=total.n_cold,
            seconds=seconds,
            n_names=len(self._stack) << self._halvings,
        )

    def _is_sampled(self, name: str) -> bool:
        digest = hashlib.blake2b(name.encode(), digest_size=_HASH_BITS // 8).digest()
        return int.from_bytes(digest) >> (_HASH_BITS - self._halvings) == 0

    def _halve(self) -> None:
        while len(self._stack) > self._max_names:
            self._halvings += 1
            for name in [name for name in self._stack if not self._is_sampled(name)]:
                self._stack.forget(name)


def _grow(histogram: _Histogram, halvings: int, distance: int) -> None:
    counts = histogram.counts.setdefault(halvings, array("Q"))
    _lengthen(counts, max(distance + 1, 2 * len(counts), 64))
    counts[distance] += 1


def _merge(into: _Histogram, other: _Histogram) -> None:
    into.n_requests += other.n_requests
    into.n_cold += other.n_cold
    for halvings, counts in other.counts.items():
        kept = into.counts.setdefault(halvings, array("Q"))
        _lengthen(kept, len(counts))
        np.frombuffer(kept, np.uint64)[: len(counts)] += np.frombuffer(counts, np.uint64)


def _lengthen(counts: array[int], length: int) -> None:
    if length > len(counts):
        counts.frombytes(bytes(counts.itemsize * (length - len(counts))))
