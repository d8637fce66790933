"""Means over the cases of a segment or a suite, each over the cases that define it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from adapters.parity.scoring.case_score import CaseScore


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean and the number of things it is over; `value` is None when that number is 0."""

    value: float | None
    n: int


@dataclass(frozen=True, slots=True)
class TaskMetrics:
    """What the gate reports per segment and in total, for one side."""

    n_scored: int
    tool_selection: Mean
    argument_exact: Mean
    argument_f1: Mean
    hallucination_rate: Mean
    recovery: Mean
    trajectory_delta: Mean
    score: Mean
    pass_rate: Mean

    def to_json(self) -> dict[str, float | None]:
        """The values under the report's keys; a measure that no case defines is null."""
        return {name: getattr(self, name).value for name in METRIC_NAMES}

    def counts(self) -> dict[str, int]:
        """Over how many cases each mean is (`hallucination_rate`: over how many fields)."""
        return {name: getattr(self, name).n for name in METRIC_NAMES}


METRIC_NAMES = (
    "tool_selection",
    "argument_exact",
    "argument_f1",
    "hallucination_rate",
    "recovery",
    "trajectory_delta",
    "score",
    "pass_rate",
)


def summarise(scores: Sequence[CaseScore]) -> TaskMetrics:
    """The means of the scores, each over the cases that define the measure.

    `hallucination_rate` is hallucinated fields over all fields that the answers filled (a ratio of
    sums: an answer with twenty fields weighs as much as its twenty fields). `trajectory_delta` is
    the mean number of calls above the gold's, negative when calls are left out.
    """
    return TaskMetrics(
        n_scored=len(scores),
        tool_selection=_mean(item.tool_selection for item in scores),
        argument_exact=_mean(item.argument_exact for item in scores),
        argument_f1=_mean(item.argument_f1 for item in scores),
        hallucination_rate=_hallucination_rate(scores),
        recovery=_mean(item.recovery for item in scores),
        trajectory_delta=_mean(item.trajectory_delta for item in scores),
        score=_mean(item.score for item in scores),
        pass_rate=_mean(item.is_pass for item in scores),
    )


def _mean(values: Iterable[Any]) -> Mean:
    defined = [float(value) for value in values if value is not None]
    return Mean(sum(defined) / len(defined) if defined else None, len(defined))


def _hallucination_rate(scores: Sequence[CaseScore]) -> Mean:
    n_fields = sum(item.n_fields or 0 for item in scores)
    n_hallucinated = sum(item.n_hallucinated or 0 for item in scores)
    return Mean(n_hallucinated / n_fields if n_fields else None, n_fields)
