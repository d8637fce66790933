"""How settings stand against each other after the rounds that they had. Pure.

A round is a replicate: the p99 of its gaps is one value, because gaps within a round hang together
(a long prompt slows all streams at once) and would feign certainty. Round i asks every setting for
the same requests, so settings are compared round by round, and what a seed adds to all cancels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from adapters.parity.statistics import Interval
from serving.tuning.goals import Goals, loss
from serving.tuning.intervals import Spread, mean_interval, pooled_spread
from serving.tuning.space import Setting


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of one setting gave."""

    setting: Setting
    number: int
    """Rounds of one number ask for the same requests."""
    values: Mapping[str, float]
    """Figures by name (`goals.METRICS`)."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rules:
    """When enough was measured."""

    min_rounds: int = 2
    max_rounds: int = 4
    start_rounds: int = 4
    """Rounds of the start, which every comparison stands on."""
    confidence: float = 0.95
    resolution: float = 0.05
    """Differences of the goal below this share are nobody's concern."""
    bound_resolution: float = 0.02
    """The same for how near a bound is."""

    @property
    def n_looks(self) -> int:
        """How often one setting may be judged: after each round from `min_rounds` on."""
        return max(1, self.max_rounds - self.min_rounds + 1)

    @property
    def look_confidence(self) -> float:
        """Per look, so that all of them together err with 1 - `confidence` (Bonferroni)."""
        return 1 - (1 - self.confidence) / self.n_looks


class Standing(StrEnum):
    """A setting is ..."""

    RACING = "racing"
    """Not decided: another round will tell."""
    OUT_OF_BOUNDS = "out of bounds"
    UNANSWERED = "not all answered"
    """Requests failed, or its engine did in a later round: its figures are of the lucky ones."""
    WORSE = "worse"
    """Than the best one that keeps the bounds."""
    SETTLED = "settled"
    """Told apart from the best, or as near as matters, or out of rounds."""


@dataclass(frozen=True)
class Evidence:
    """All rounds, read with the goals; everything relative to the start."""

    start: Setting
    goals: Goals
    rounds: Sequence[Round]
    failed: Collection[Setting] = frozenset()
    """Settings whose engine failed, perhaps after rounds that went well."""
    by_setting: dict[Setting, dict[int, Round]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        by_setting: dict[Setting, dict[int, Round]] = {}
        for one in self.rounds:
            by_setting.setdefault(one.setting, {})[one.number] = one
        object.__setattr__(self, "by_setting", by_setting)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Those with a round, in the order of their first."""
        return tuple(self.by_setting)

    def n_rounds(self, setting: Setting) -> int:
        """Rounds of it so far."""
        return len(self.by_setting.get(setting, {}))

    def values(self, setting: Setting, metric: str) -> list[float]:
        """One figure, a value per round, in the order of the rounds."""
        mine = self.by_setting.get(setting, {})
        return [mine[number].values.get(metric, math.nan) for number in sorted(mine)]

    def differences(self, setting: Setting, metric: str, other: Setting) -> list[float]:
        """`loss` of the setting minus the other's, per round that both have; undefined ones out."""
        mine, theirs = self.by_setting.get(setting, {}), self.by_setting.get(other, {})
        pairs = (
            loss(metric, mine[number].values.get(metric, math.nan))
            - loss(metric, theirs[number].values.get(metric, math.nan))
            for number in sorted(mine.keys() & theirs.keys())
        )
        return [value for value in pairs if not math.isnan(value)]

    def excesses(self, setting: Setting, index: int) -> list[float]:
        """How far over the index-th bound, per round."""
        mine, first = self.by_setting.get(setting, {}), self.by_setting.get(self.start, {})
        bound = self.goals.bounds[index]
        numbers = mine.keys() & first.keys() if bound.is_relative else mine.keys()
        found = (
            bound.excess(mine[number].values, first[number].values if number in first else {})
            for number in sorted(numbers)
        )
        return [value for value in found if not math.isnan(value)]

    def goal_spread(self) -> Spread | None:
        """Of the goal's differences to the start, over all settings."""
        others = (setting for setting in self.by_setting if setting != self.start)
        return pooled_spread([self.differences(s, self.goals.metric, self.start) for s in others])

    def bound_spread(self, index: int) -> Spread | None:
        """Of how far over a bound, over all settings."""
        is_relative = self.goals.bounds[index].is_relative
        # Of the start against itself, every difference is zero, and says nothing.
        compared = (s for s in self.by_setting if not is_relative or s != self.start)
        return pooled_spread([self.excesses(setting, index) for setting in compared])

    def goal_interval(
        self, setting: Setting, other: Setting, *, confidence: float
    ) -> Interval | None:
        """Of the logarithm of the ratio of the goal's figure; below 0: the setting is better."""
        values = self.differences(setting, self.goals.metric, other)
        return mean_interval(values, spread=self.goal_spread(), confidence=confidence)

    def bound_interval(self, setting: Setting, index: int, *, confidence: float) -> Interval | None:
        """Of how far over the bound; below 0: it is kept."""
        if setting == self.start and self.goals.bounds[index].is_relative:
            excess = self.excesses(setting, index)
            return Interval(excess[0], excess[0]) if excess else None
        return mean_interval(
            self.excesses(setting, index),
            spread=self.bound_spread(index),
            confidence=confidence,
        )

    def goal_estimate(self, setting: Setting) -> float:
        """Mean logarithm of the ratio to the start; nan without a round in common."""
        return _mean(self.differences(setting, self.goals.metric, self.start))

    def keeps_bounds(self, setting: Setting) -> bool:
        """By the estimates; without any it is not known to, so no."""
        means = [_mean(self.excesses(setting, i)) for i in range(len(self.goals.bounds))]
        return all(mean <= 0 for mean in means)

    def n_unanswered(self, setting: Setting) -> int:
        """Requests of its rounds that were not answered."""
        mine = self.by_setting.get(setting, {})
        return int(sum(one.values.get("n_failed", 0) for one in mine.values()))

    def has_failures(self, setting: Setting) -> bool:
        """Whether its engine failed, or did not answer a request: no setting to recommend."""
        return setting in self.failed or self.n_unanswered(setting) > 0

    def best(self, settings: Iterable[Setting] | None = None) -> Setting | None:
        """The best goal of those that answer everything and keep the bounds; None: none does."""
        able = [
            setting
            for setting in (self.by_setting if settings is None else settings)
            if self.keeps_bounds(setting)
            and not self.has_failures(setting)
            and not math.isnan(self.goal_estimate(setting))
        ]
        return min(able, key=self.goal_estimate, default=None)


def standing(evidence: Evidence, setting: Setting, rules: Rules) -> Standing:
    """Whether a setting needs another round, and why not."""
    n_rounds = evidence.n_rounds(setting)
    if setting in evidence.failed:
        return Standing.UNANSWERED
    if n_rounds < rules.min_rounds:
        return Standing.RACING
    if evidence.has_failures(setting):
        return Standing.UNANSWERED
    confidence = rules.look_confidence
    others = [s for s in evidence.settings if s != setting and s.enable_chunked_prefill]
    rival = evidence.best(others)
    bounds = [
        evidence.bound_interval(setting, index, confidence=confidence)
        for index in range(len(evidence.goals.bounds))
    ]
    goal = evidence.goal_interval(setting, rival, confidence=confidence) if rival else None
    if any(b is not None and b.low > 0 for b in bounds):
        return Standing.OUT_OF_BOUNDS
    if goal is not None and goal.low > 0:
        return Standing.WORSE
    if n_rounds >= rules.max_rounds:
        return Standing.SETTLED
    is_told = all(_is_told(b, rules.bound_resolution) for b in bounds)
    if is_told and (rival is None or _is_told(goal, rules.resolution)):
        return Standing.SETTLED
    return Standing.RACING


def _is_told(interval: Interval | None, resolution: float) -> bool:
    """Apart from zero, or so near to it that the difference is nobody's concern."""
    if interval is None:
        return False
    is_apart = interval.low > 0 or interval.high < 0
    return is_apart or (interval.high - interval.low) / 2 <= math.log1p(resolution)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan
