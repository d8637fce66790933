"""What a load left behind: one sample per request, and the figures that are read from them. Pure.

Every latency counts from when its request was due, never from when it was sent: a request that
went out late because something stalled has waited, and so would a person have. Without that, a
stall hides all the requests that it held up (coordinated omission).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]

LATE_SHARE = 0.1
"""Share of the p99 TTFT that the generator's own lateness may be before it is worth a word."""

_COLUMNS = (
    "kind", "adapter", "due_at", "sent_at", "first_at", "token_at", "ended_at", "status",
    "n_prompt", "n_output", "error",
)  # fmt: skip
_MICROSECONDS = 6
"""Decimals that are kept of a time: finer than what a socket tells."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: asked for, sent, answered or not. Times are seconds after the load's start."""

    kind: str
    adapter: int
    due_at: float
    """When the shape wanted it."""
    sent_at: float
    """When the generator began to send it; later than `due_at` by the generator's own lag."""
    first_at: float | None
    """Arrival of the first token; None: there was none."""
    token_at: tuple[float, ...]
    """Arrival of each piece of the stream that held tokens; a piece may hold several."""
    ended_at: float
    status: int
    """HTTP status; 0: no answer at all."""
    n_prompt: int
    """As the server counted them, or as the shape wanted where it did not say."""
    n_output: int
    """As the server counted them, or else the pieces of the stream."""
    error: str | None
    """Why it failed; None: answered to its end."""

    @property
    def is_answered(self) -> bool:
        """Answered to its end."""
        return self.error is None


@dataclass(frozen=True)
class LoadResult:
    """All samples of one load, in the order in which they were due."""

    samples: tuple[Sample, ...]

    @cached_property
    def answered(self) -> tuple[Sample, ...]:
        """Those that have latencies; the others are counted by `n_failed`."""
        return tuple(sample for sample in self.samples if sample.is_answered)

    @property
    def n_failed(self) -> int:
        """Requests that were not answered to their end, whatever the reason."""
        return len(self.samples) - len(self.answered)

    @property
    def failed_ratio(self) -> float:
        """Failed requests over all; nan without any."""
        return self.n_failed / len(self.samples) if self.samples else math.nan

    @property
    def kinds(self) -> tuple[str, ...]:
        """The classes that occur, sorted."""
        return tuple(sorted({sample.kind for sample in self.samples}))

    @property
    def seconds(self) -> float:
        """From the first request's due time to the last one's end; nan without samples."""
        if not self.samples:
            return math.nan
        return max(s.ended_at for s in self.samples) - min(s.due_at for s in self.samples)

    def of(self, kind: str) -> LoadResult:
        """The part of one class."""
        return LoadResult(tuple(sample for sample in self.samples if sample.kind == kind))

    def ttft(self, kind: str | None = None) -> Seconds:
        """Seconds from due to the first token, of answered requests."""
        return _array(s.first_at - s.due_at for s in self._read(kind) if s.first_at is not None)

    def gaps(self, kind: str | None = None) -> Seconds:
        """Seconds between pieces of one stream, of answered requests, all streams together."""
        return _array(
            late - early for s in self._read(kind) for early, late in pairwise(s.token_at)
        )

    def e2e(self, kind: str | None = None) -> Seconds:
        """Seconds from due to the end of the answer, of answered requests."""
        return _array(s.ended_at - s.due_at for s in self._read(kind))

    def lag(self) -> Seconds:
        """Seconds by which the generator itself sent late; what it adds to every latency."""
        return _array(s.sent_at - s.due_at for s in self.samples)

    @property
    def tokens_per_second(self) -> float:
        """Prompt and output tokens of answered requests over `seconds`; nan when undefined."""
        return _rate(sum(s.n_prompt + s.n_output for s in self.answered), self.seconds)

    @property
    def output_tokens_per_second(self) -> float:
        """Output tokens of answered requests over `seconds`; nan when undefined."""
        return _rate(sum(s.n_output for s in self.answered), self.seconds)

    def to_json(self) -> dict[str, Any]:
        """A JSON document with every sample, one short row each; times to the microsecond."""
        rows = [[_plain(getattr(sample, name)) for name in _COLUMNS] for sample in self.samples]
        return {"columns": list(_COLUMNS), "samples": rows}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LoadResult:
        """What `to_json` gave."""
        rows = (dict(zip(document["columns"], row, strict=True)) for row in document["samples"])
        return cls(tuple(Sample(**{**row, "token_at": tuple(row["token_at"])}) for row in rows))

    def _read(self, kind: str | None) -> Iterator[Sample]:
        return (sample for sample in self.answered if kind is None or sample.kind == kind)


def percentile(values: Sequence[float] | Seconds, q: float) -> float:
    """The q-th percentile (0 to 100), linear between neighbours; nan of nothing."""
    return float(np.percentile(values, q)) if len(values) else math.nan


def _array(values: Iterator[float]) -> Seconds:
    return np.fromiter(values, dtype=np.float64)


def _rate(n: int, seconds: float) -> float:
    return n / seconds if seconds > 0 else math.nan


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _MICROSECONDS)
    if isinstance(value, tuple):
        return [round(item, _MICROSECONDS) for item in value]
    return value
