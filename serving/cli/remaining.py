"""How long an evaluation still takes, from what was seen of it; unknown stays unknown. Pure.

A stage's rate is measured, never assumed: what was done in the time that was watched. Stages to
come are guessed from their usual weights, at the pace of those that were watched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

_LEAST_STEPS, _LEAST_SECONDS = 3, 2.0
"""Less than this of a stage says nothing of its rate; arbitrary."""
_REUSED_SECONDS = 1.0
"""A stage that was over sooner had its result already, and says nothing of the pace; arbitrary."""


@dataclass(frozen=True, slots=True)
class Look:
    """What the controller said at one moment; `at_seconds` is of any clock that only goes on."""

    at_seconds: float
    stage: str
    done: int = 0
    total: int = 0
    index: int | None = None
    """Place among the stages; None for one without a usual time, as waiting for an engine."""
    weights: tuple[float, ...] = ()
    """Usual share of the time of each stage, in order."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """Seconds left; None: unknown."""

    stage_seconds: float | None
    all_seconds: float | None
    """Of all stages, this one included."""


@dataclass(frozen=True, slots=True)
class _Span:
    """One stage as far as it was watched."""

    first: Look
    last: Look
    seconds: float


def read_look(at_seconds: float, progress: Mapping[str, Any]) -> Look:
    """A look from the API's `progress`; what it lacks or has in another form is unknown."""
    weights = _weights(progress.get("stages"))
    index = progress.get("index")
    is_placed = type(index) is int and 0 <= index < len(weights)
    return Look(
        at_seconds=at_seconds,
        stage=str(progress.get("stage") or ""),
        done=_count(progress.get("done")),
        total=_count(progress.get("total")),
        index=index if is_placed else None,
        weights=weights,
    )


def _weights(stages: Any) -> tuple[float, ...]:
    """All weights, or none where one of them is no share of time."""
    if not isinstance(stages, list):
        return ()
    weights = [item.get("weight") if isinstance(item, Mapping) else None for item in stages]
    known = [float(weight) for weight in weights if _is_number(weight) and 0 < weight < 1e9]
    return tuple(known) if len(known) == len(weights) else ()


def estimate_remaining(looks: Sequence[Look]) -> Remaining:
    """What is left after the last of `looks`, which are in order of time.

    What was seen before a stage began again, or before an earlier one did, does not count.
    """
    if not looks:
        return Remaining(None, None)
    spans = _spans(_since_last_restart(looks))
    stage_seconds = _stage_seconds(spans[-1])
    return Remaining(stage_seconds, _all_seconds(spans, stage_seconds))


def describe(seconds: float | None) -> str | None:
    """About how long, rounded up as people say it: "about 25 s", "about 2 min". None: unknown."""
    if seconds is None or not math.isfinite(seconds):
        return None
    if seconds <= 5:
        return "a few seconds"
    if seconds <= 55:
        return f"about {math.ceil(seconds / 5) * 5} s"
    minutes = math.ceil(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min"
    hours, rest = divmod(math.ceil(minutes / 10) * 10, 60)
    return f"about {hours} h {rest:02d} min" if rest else f"about {hours} h"


def _is_number(value: Any) -> TypeGuard[float]:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and abs(value) < math.inf


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _since_last_restart(looks: Sequence[Look]) -> Sequence[Look]:
    start, highest = 0, -1
    for number, (before, after) in enumerate(pairwise(looks), start=1):
        highest = max(highest, -1 if before.index is None else before.index)
        is_again = after.stage == before.stage and after.done < before.done
        if is_again or (after.index is not None and after.index < highest):
            start, highest = number, -1
    return looks[start:]


def _spans(looks: Sequence[Look]) -> list[_Span]:
    starts = [0] + [i + 1 for i, (a, b) in enumerate(pairwise(looks)) if a.stage != b.stage]
    ends = [*starts[1:], len(looks)]
    return [
        # A stage is over when the next one is seen; the present one lasts until the last look.
        _Span(
            looks[start],
            looks[end - 1],
            looks[min(end, len(looks) - 1)].at_seconds - looks[start].at_seconds,
        )
        for start, end in zip(starts, ends, strict=True)
    ]


def _stage_seconds(span: _Span) -> float | None:
    n_done = span.last.done - span.first.done
    left = span.last.total - span.last.done
    if span.last.total <= 0:
        return None
    if left <= 0:
        return 0.0
    if n_done < _LEAST_STEPS or span.seconds < _LEAST_SECONDS:
        return None
    return left * span.seconds / n_done


def _all_seconds(spans: Sequence[_Span], stage_seconds: float | None) -> float | None:
    present = spans[-1]
    index, weights = present.last.index, present.last.weights
    if index is None or index >= len(weights):
        return None
    pace = _seconds_per_weight(spans, stage_seconds)
    to_come = sum(weights[index + 1 :])
    if pace is None:
        return stage_seconds if to_come == 0 else None
    here = stage_seconds
    if here is None:
        here = weights[index] * pace - present.seconds
        if here < 0:
            return None
    return here + to_come * pace


def _seconds_per_weight(spans: Sequence[_Span], stage_seconds: float | None) -> float | None:
    """The pace of the stages that were watched from their beginning."""
    seconds = weight = 0.0
    for span in spans:
        is_present = span is spans[-1]
        whole = span.seconds
        if is_present:
            whole = math.nan if stage_seconds is None else span.seconds + stage_seconds
        index, weights = span.first.index, span.first.weights
        is_useful = index is not None and index < len(weights) and whole >= _REUSED_SECONDS
        if is_useful and index is not None and span.first.done == 0:
            seconds, weight = seconds + whole, weight + weights[index]
    return seconds / weight if weight and seconds >= _LEAST_SECONDS else None
