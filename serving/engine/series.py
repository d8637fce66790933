"""Counts per adapter, and the bound on how many adapters have series of their own. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

from serving.contract import INTER_TOKEN_BOUNDS_SECONDS, TTFT_BOUNDS_SECONDS
from serving.engine.ports import AdapterLoads

OTHER = "other"
"""What is beyond the bound is counted under this name; no tenant or adapter may bear it."""


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One request that the engine finished, from the engine's own statistics."""

    name: str
    """`acme/support@3`."""
    prompt_tokens: int
    completion_tokens: int
    ttft_seconds: float
    """NaN where no token was made."""
    e2e_seconds: float
    outcome: str
    """`stop`, `length`, `abort`, ..."""
    inter_token_seconds: float = math.nan
    """Mean time between two of its tokens; NaN where there are fewer than two."""
    slot_wait_seconds: float = math.nan
    """From its arrival in the scheduler to its first step; NaN where it had none."""


class Seconds:
    """A histogram; `counts` has one more place than `bounds`, for what is beyond the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...] = TTFT_BOUNDS_SECONDS) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Add one measurement; NaN is none."""
        if math.isfinite(seconds):
            self.counts[bisect_left(self.bounds, seconds)] += 1
            self.total += seconds

    def add(self, other: Seconds) -> None:
        """Take over the measurements of a histogram with the same bounds."""
        self.counts = [
            ours + theirs for ours, theirs in zip(self.counts, other.counts, strict=True)
        ]
        self.total += other.total


@dataclass(slots=True)
class Tally:
    """Finished requests of one adapter, or of several together."""

    requests: Counter[str] = field(default_factory=Counter)
    """By outcome."""
    n_changes: int = 0
    """Grows with everything that is counted here."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    wait_seconds: float = 0.0
    ttft: Seconds = field(default_factory=Seconds)
    e2e: Seconds = field(default_factory=Seconds)
    inter_token: Seconds = field(default_factory=lambda: Seconds(INTER_TOKEN_BOUNDS_SECONDS))

    def finished(self, request: FinishedRequest) -> None:
        """Count one finished request."""
        self.n_changes += 1
        self.requests[request.outcome] += 1
        self.prompt_tokens += request.prompt_tokens
        self.completion_tokens += request.completion_tokens
        self.ttft.observe(request.ttft_seconds)
        self.e2e.observe(request.e2e_seconds)
        self.inter_token.observe(request.inter_token_seconds)
        if math.isfinite(request.slot_wait_seconds):
            self.wait_seconds += request.slot_wait_seconds

    def waited(self, seconds: float) -> None:
        """Add to the waits of this adapter's requests."""
        self.n_changes += 1
        self.wait_seconds += seconds

    def add(self, other: Tally) -> None:
        """Take over another tally's counts."""
        self.n_changes += 1
        self.requests.update(other.requests)
        self.prompt_tokens += other.prompt_tokens
        self.completion_tokens += other.completion_tokens
        self.wait_seconds += other.wait_seconds
        for ours, theirs in (
            (self.ttft, other.ttft),
            (self.e2e, other.e2e),
            (self.inter_token, other.inter_token),
        ):
            ours.add(theirs)


def add_loads(left: AdapterLoads, right: AdapterLoads) -> AdapterLoads:
    """Counts of two adapters together."""
    return AdapterLoads(
        left.loads_disk + right.loads_disk,
        left.loads_cache + right.loads_cache,
        left.evictions_slot + right.evictions_slot,
        left.evictions_cache + right.evictions_cache,
        left.removals + right.removals,
        left.failures + right.failures,
        left.slot_seconds + right.slot_seconds,
    )


class SeriesLimit:
    """Who has series of its own: the first `most` names, each until it is forgotten.

    A name that came too late stays with the others even when a place becomes free: its counts are
    among theirs already, and a counter must not fall.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._own: set[str] = set()
        self._others: set[str] = set()

    def label(self, name: str) -> str:
        """The name itself, or `other`."""
        if name in self._own:
            return name
        if name in self._others or len(self._own) >= self._most:
            self._others.add(name)
            return OTHER
        self._own.add(name)
        return name

    def is_other(self, name: str) -> bool:
        """Whether this name's counts are among the others'."""
        return name in self._others

    def forget(self, name: str) -> None:
        """The version is gone; its place is free."""
        self._own.discard(name)
        self._others.discard(name)
