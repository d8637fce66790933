"""Whether a candidate keeps its goals, from a few runs, and how sure that is. Pure.

Each run gives one figure for each goal; on a log scale, runs of one machine scatter about alike, so
the mean over runs has a Student's t interval. A goal passes when the interval's side that would be
worse still keeps the limit, fails when its better side is beyond it, and is open in between.
Undefined is open: never a pass, never a fail.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

from adapters.parity.verdict import VerdictKind
from serving.tuning.goals import METRICS, Values, loss
from serving.tuning.intervals import student_quantile
from serving.tuning.slo import MOST_FAILED_RATIO, Slo, Slos

ALPHA = 0.05
"""Chance of a wrong PASS, and of a wrong FAIL, of a candidate that is just at its limits."""
_MOST_ADVISED_RUNS = 40
_quantile = cache(student_quantile)


@dataclass(frozen=True, slots=True)
class Rules:
    """How sure a verdict must be, and how often it was, or may be, asked for."""

    alpha: float = ALPHA
    n_looks: int = 1
    """Times at which the runs are judged and could be decided: each takes its part of alpha."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The figures of each run by class (None: all requests), in the order of the runs."""

    candidate: Mapping[str | None, Sequence[Values]]
    current: Mapping[str | None, Sequence[Values]] | None
    is_paired: bool
    """Whether run k of both was made at the same time, so that the machine's moods cancel out."""
    n_failed: int
    n_requests: int
    n_failed_current: int = 0
    """Requests that the current one did not answer; its figures are of the others."""
    failed_ratio: Mapping[str | None, float] = field(default_factory=lambda: MappingProxyType({}))
    """By class, the share of the candidate's requests that were not answered."""

    def is_lost(self, slo: Slo) -> bool:
        """Whether what is missing could be all that a p99 is about."""
        return slo.metric.endswith("p99") and self.failed_ratio.get(slo.kind, 0) > MOST_FAILED_RATIO


@dataclass(frozen=True, slots=True)
class Finding:
    """One goal's outcome. Figures are in the goal's unit, or ratios; nan where not defined."""

    slo: Slo
    verdict: VerdictKind
    figure: float
    low: float
    high: float
    """`low` to `high` is the interval: its worse side decides a PASS, its better side a FAIL."""
    reason: str = ""
    """What follows the figure's name: why it fails; or why it is open, and what to do."""

    @property
    def unit(self) -> str:
        """Of figure, low and high."""
        return "x" if self.slo.is_relative else METRICS[self.slo.metric]


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict, with each goal's."""

    verdict: VerdictKind
    findings: tuple[Finding, ...]
    n_failed: int
    n_requests: int
    reasons: tuple[str, ...]


def judge(slos: Slos, runs: Runs, rules: Rules) -> Judged:
    """FAIL if a goal fails or too many requests were not answered; PASS if all goals pass.

    A wrong PASS needs every goal to pass wrongly, so each may use all of alpha
    (intersection-union test); a wrong FAIL needs one goal alone, so they share it (Bonferroni).
    """
    findings = tuple(_find(slo, runs, rules, n_goals=len(slos.goals)) for slo in slos.goals)
    reasons = []
    # Before the first run there is no share of requests that failed.
    failed_ratio = runs.n_failed / runs.n_requests if runs.n_requests else math.nan
    has_failures = failed_ratio > slos.max_failed_ratio
    if has_failures:
        reasons.append(
            f"{runs.n_failed} of {runs.n_requests} requests were not answered; "
            f"at most a share of {slos.max_failed_ratio:g} may be"
        )
    verdicts = {one.verdict for one in findings}
    if has_failures or VerdictKind.FAIL in verdicts:
        verdict = VerdictKind.FAIL
    elif verdicts == {VerdictKind.PASS} and runs.n_requests:
        verdict = VerdictKind.PASS
    else:
        verdict = VerdictKind.INCONCLUSIVE
    # What is open is of no interest where something has failed.
    reasons += [f"{one.slo.figure} {one.reason}" for one in findings if one.verdict is verdict]
    if verdict is VerdictKind.PASS:
        reasons = []
    return Judged(verdict, findings, runs.n_failed, runs.n_requests, tuple(reasons))


def _find(slo: Slo, runs: Runs, rules: Rules, *, n_goals: int) -> Finding:
    candidate = runs.candidate.get(slo.kind, ())
    current = None if runs.current is None else runs.current.get(slo.kind, ())
    mean, error, degrees = _excess(slo, candidate, current, is_paired=runs.is_paired)
    figure = slo.figure_at(mean)
    is_flattered = slo.is_relative and runs.n_failed_current > 0
    if degrees < 1 or is_flattered or runs.is_lost(slo):
        why = _undefined(slo, runs)
        return Finding(slo, VerdictKind.INCONCLUSIVE, figure, math.nan, math.nan, why)
    # Two-sided quantiles at twice the level are the one-sided ones.
    alpha = rules.alpha / rules.n_looks
    sure = _Sureness(1 - 2 * alpha, 1 - 2 * alpha / n_goals)
    worst = mean + error * _quantile(sure.of_pass, degrees)
    best = mean - error * _quantile(sure.of_fail, degrees)
    low, high = sorted((slo.figure_at(best), slo.figure_at(worst)))
    verdict = VerdictKind.INCONCLUSIVE
    if worst <= 0:
        verdict, reason = VerdictKind.PASS, ""
    elif best > 0:
        unit = "x the current one's" if slo.is_relative else METRICS[slo.metric]
        verdict, reason = VerdictKind.FAIL, f"is {figure:.3g} {unit}: {slo.text}"
    else:
        reason = _advice(mean, error, degrees, sure, n=len(candidate))
    return Finding(slo, verdict, figure, low, high, reason)


class _Sureness(NamedTuple):
    """Two-sided confidences whose intervals' sides decide."""

    of_pass: float
    of_fail: float


def _excess(
    slo: Slo, candidate: Sequence[Values], current: Sequence[Values] | None, *, is_paired: bool
) -> tuple[float, float, int]:
    """(mean, its standard error, degrees of freedom) of the excess; 0 degrees: not defined."""
    if not slo.is_relative:
        return _mean([slo.excess(values, None) for values in candidate])
    if current is None:
        return math.nan, math.nan, 0
    if is_paired:
        pairs = zip(candidate, current, strict=False)
        return _mean([slo.excess(mine, theirs) for mine, theirs in pairs])
    mine = [loss(slo.metric, values.get(slo.metric, math.nan)) for values in candidate]
    theirs = [loss(slo.metric, values.get(slo.metric, math.nan)) for values in current]
    return _difference(mine, theirs, loss(slo.metric, slo.limit))


def _mean(values: Sequence[float]) -> tuple[float, float, int]:
    if not values or any(math.isnan(value) for value in values):
        return math.nan, math.nan, 0
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan, 0
    return mean, statistics.stdev(values) / math.sqrt(len(values)), len(values) - 1


def _difference(
    mine: Sequence[float], theirs: Sequence[float], limit: float
) -> tuple[float, float, int]:
    """Welch's t: the two need not scatter alike. Its degrees of freedom are rounded down."""
    (mean_a, error_a, degrees_a), (mean_b, error_b, degrees_b) = _mean(mine), _mean(theirs)
    mean = mean_a - mean_b - limit
    if degrees_a < 1 or degrees_b < 1:
        return mean, math.nan, 0
    squares = error_a**2, error_b**2
    error = math.sqrt(sum(squares))
    spread = squares[0] ** 2 / degrees_a + squares[1] ** 2 / degrees_b
    degrees = sum(squares) ** 2 / spread if spread > 0 else degrees_a + degrees_b
    return mean, error, max(1, math.floor(degrees))


def _undefined(slo: Slo, runs: Runs) -> str:
    n = len(runs.candidate.get(slo.kind, ()))
    if n < 2:
        return f"is open: {n} runs say nothing of how much runs differ: make at least two"
    if slo.is_relative and runs.current is None:
        return "is open: there is no current one to compare with: name it"
    if runs.is_lost(slo):
        return (
            "is open: more than one in a hundred requests of it were not answered, and they may be "
            "the slowest"
        )
    if slo.is_relative and runs.n_failed_current:
        return (
            f"is open: {runs.n_failed_current} of the current one's requests were not answered, so "
            "it is no measure: replay a window that it can answer, or give limits"
        )
    if slo.metric.startswith("gap"):
        return (
            "is open: a run has no gap between tokens, or its tokens all came at once: use a "
            "window with longer answers"
        )
    return "is open: in a run nothing of this class was answered, or it took no time"


def _advice(mean: float, error: float, degrees: int, sure: _Sureness, *, n: int) -> str:
    """How many runs would decide it, if they scatter as these do and their mean stays."""
    confidence = sure.of_pass if mean < 0 else sure.of_fail
    for wanted in range(n + 1, _MOST_ADVISED_RUNS + 1):
        half = error * math.sqrt(n / wanted)
        half *= _quantile(confidence, max(1, degrees * (wanted - 1) // (n - 1)))
        if half < abs(mean):
            return f"is open after {n} runs; about {wanted} would decide it: raise --most-runs"
    return (
        f"is open after {n} runs, and too near its limit for a few more: replay a longer window, "
        "on a quieter machine, or move the limit"
    )
