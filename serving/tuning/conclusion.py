"""What a search found: the setting to recommend, against what, how sure; the front. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from adapters.parity.statistics import Interval
from serving.tuning.goals import CAPACITY, METRICS, THROUGHPUT, is_higher_better
from serving.tuning.intervals import mean_interval, pooled_spread
from serving.tuning.race import Evidence, Standing, standing
from serving.tuning.search import Plan, State, evidence_of
from serving.tuning.space import Setting

_LEFT = "left undecided"
"""Where another setting promised much more, or the budget ended."""


@dataclass(frozen=True, slots=True)
class Found:
    """One figure of one setting: the mean of its rounds, an interval, and each round's value."""

    metric: str
    mean: float
    interval: Interval | None
    rounds: tuple[float, ...]

    @property
    def unit(self) -> str:
        """Of the figure."""
        return METRICS[self.metric]


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as the report shows it."""

    setting: Setting
    role: str
    """`start`, `reference` or `candidate`."""
    figures: tuple[Found, ...]
    ratio: float
    """Of the goal's figure to the start's; nan without a round in common."""
    ratio_interval: Interval | None
    keeps_bounds: bool
    """And has a goal's figure, and answers every request."""
    verdict: str
    n_unanswered: int = 0
    """Requests; its latencies leave them out."""
    has_failures: bool = False
    """Some were not answered, or its engine failed in a later round."""
    is_on_front: bool = False

    def figure(self, metric: str) -> Found | None:
        """The figure of that name, if it was measured."""
        return next((found for found in self.figures if found.metric == metric), None)


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What comes out."""

    chosen: Setting
    is_better: bool
    """Whether it beats the start beyond chance; if not, it is the start."""
    reason: str
    rows: tuple[Row, ...]
    near: tuple[Setting, ...]
    """Settings that could not be told from the chosen one."""
    confidence: float
    """Of each ratio's interval: so strict that all of them together hold with 95 %."""

    @property
    def row(self) -> Row:
        """The chosen setting's."""
        return next(row for row in self.rows if row.setting == self.chosen)


def conclude(plan: Plan, state: State) -> Conclusion:
    """The best measured setting that keeps the bounds, of those that beat the start beyond chance.

    Several settings were tried, and the best of several looks good by chance: the confidence of
    each comparison with the start is corrected for how many there were (Bonferroni).
    """
    evidence = evidence_of(plan, state)
    compared = [s for s in evidence.settings if s not in (plan.start, plan.reference)]
    confidence = 1 - (1 - plan.rules.confidence) / max(1, len(compared))
    best = evidence.best([*compared, plan.start])
    chosen, is_better, reason = _choose(plan, evidence, best, confidence)
    rows = tuple(_row(plan, evidence, setting, confidence) for setting in evidence.settings)
    near = tuple(s for s in compared if s != chosen and _is_near(evidence, s, chosen, confidence))
    return Conclusion(
        chosen, is_better, reason, _mark_front(rows, plan.goals.metric), near, confidence
    )


def _choose(
    plan: Plan, evidence: Evidence, best: Setting | None, confidence: float
) -> tuple[Setting, bool, str]:
    if plan.start not in evidence.settings:
        return plan.start, False, "the start was not measured"
    starts_well = evidence.best([plan.start]) is not None
    if best is None:
        reason = "no setting that was measured keeps all bounds and answers every request"
        if math.isnan(evidence.goal_estimate(plan.start)):
            reason = f"its {plan.goals.metric} is not defined under this load"
        elif n := evidence.n_unanswered(plan.start):
            reason += f"; the start left {n} unanswered"
        return plan.start, False, reason
    if best == plan.start:
        return plan.start, False, "no setting that keeps the bounds has a better goal"
    proven: Setting | None = best
    if starts_well:
        # One that looks better still, by a wide interval, is no reason to take neither.
        compared = [s for s in evidence.settings if s not in (plan.start, plan.reference)]
        proven = evidence.best(
            s for s in compared if _is_better(evidence, s, plan.start, confidence)
        )
    if proven is not None and _is_better(evidence, proven, plan.start, confidence):
        ratio = math.exp(evidence.goal_estimate(proven))
        return proven, True, f"{plan.goals.metric} is {_times(plan, ratio)} the start's"
    if not starts_well:
        return best, True, "it keeps the bounds and answers every request; the start does not"
    return plan.start, False, f"`{best.name}` looks better, but not beyond chance"


def _is_better(evidence: Evidence, setting: Setting, other: Setting, confidence: float) -> bool:
    interval = evidence.goal_interval(setting, other, confidence=confidence)
    return interval is not None and interval.high < 0


def _times(plan: Plan, ratio: float) -> str:
    return f"{1 / ratio if is_higher_better(plan.goals.metric) else ratio:.2f} times"


def _is_near(evidence: Evidence, setting: Setting, chosen: Setting, confidence: float) -> bool:
    if not evidence.keeps_bounds(setting) or evidence.has_failures(setting):
        return False
    interval = evidence.goal_interval(setting, chosen, confidence=confidence)
    return interval is None or interval.low <= 0


def _row(plan: Plan, evidence: Evidence, setting: Setting, confidence: float) -> Row:
    roles = {plan.start: "start", plan.reference: "reference"}
    interval = None
    if setting != plan.start:
        interval = evidence.goal_interval(setting, plan.start, confidence=confidence)
    verdict = str(standing(evidence, setting, plan.rules))
    is_kept = evidence.best([setting]) is not None
    if verdict == Standing.SETTLED and not is_kept:
        verdict = str(Standing.OUT_OF_BOUNDS)
    if verdict == Standing.RACING:
        verdict = _LEFT
    return Row(
        setting,
        roles.get(setting, "candidate"),
        tuple(_found(evidence, setting, metric, plan.rules.confidence) for metric in METRICS),
        math.exp(evidence.goal_estimate(setting)),
        interval and Interval(math.exp(interval.low), math.exp(interval.high)),
        is_kept,
        {"start": "start", "reference": "reference"}.get(roles.get(setting, ""), verdict),
        evidence.n_unanswered(setting),
        has_failures=evidence.has_failures(setting),
    )


def _found(evidence: Evidence, setting: Setting, metric: str, confidence: float) -> Found:
    values = [value for value in evidence.values(setting, metric) if value > 0]
    logs = [math.log(value) for value in values]
    pool = pooled_spread(
        [
            [math.log(value) for value in evidence.values(other, metric) if value > 0]
            for other in evidence.settings
        ]
    )
    interval = mean_interval(logs, spread=pool, confidence=confidence)
    return Found(
        metric,
        math.exp(statistics.fmean(logs)) if logs else math.nan,
        interval and Interval(math.exp(interval.low), math.exp(interval.high)),
        tuple(values),
    )


def _mark_front(rows: Sequence[Row], goal: str) -> tuple[Row, ...]:
    """Rows with `is_on_front`: no other has both a lower p99 gap and a higher throughput.

    What leaves requests unanswered is on none, and beats none: it is fast because it does less.
    """
    sound = [(row, *axes_of(row, goal)) for row in rows if not row.has_failures]
    return tuple(
        replace(
            row,
            is_on_front=not any(x2 <= x and y2 <= y and (x2, y2) != (x, y) for _, x2, y2 in sound)
            and not (row.has_failures or math.isnan(x) or math.isnan(y)),
        )
        for row, x, y in ((row, *axes_of(row, goal)) for row in rows)
    )


def axes_of(row: Row, goal: str) -> tuple[float, float]:
    """(latency, minus throughput): both are better when less; nan where not measured."""
    latency = row.figure(goal if not is_higher_better(goal) else "gap_p99")
    many = row.figure(CAPACITY)
    if many is None or math.isnan(many.mean):
        many = row.figure(THROUGHPUT)
    return (
        latency.mean if latency else math.nan,
        -many.mean if many else math.nan,
    )
