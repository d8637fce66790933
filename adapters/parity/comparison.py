"""Level 3 decided: is the candidate worse than what it is compared with, in total or in a segment?

Pure. One comparison is paired per case; what cannot be known is None, never a number. How the
interval, the exact test and Holm's correction decide together: docs/adr/0008-statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.parity.paired_measures import (
    Method,
    PairedMeasures,
    PairedScore,
    check_pairs,
    is_binary,
    measure_pairs,
)
from adapters.parity.statistics import Interval, check_confidence, holm_adjusted

__all__ = [
    "Comparison",
    "ComparisonRules",
    "PairedScore",
    "SegmentComparison",
    "compare",
    "detectable_sentence",
]

TOTAL = "total"
"""Name of the row over every case."""
_ROUNDING = 1e-12
"""Drops that differ from the margin by less than this do not exceed it."""


@dataclass(frozen=True, slots=True)
class ComparisonRules:
    """What counts as a regression. Rates are shares (0.005 is half a point)."""

    margin: float = 0.005
    """An observed drop up to this is never a regression."""
    confidence: float = 0.95
    """Of the two-sided intervals; a harmless candidate is blocked in at most (1 - this) / 2."""
    min_cases: int = 50
    """A total over fewer cases is undefined."""
    min_cases_per_segment: int = 20
    """A smaller segment is shown and decides nothing."""
    segment_thresholds: Mapping[str, float] = field(default_factory=dict)
    """Absolute rates that the candidate must reach, by segment."""
    n_resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        check_confidence(self.confidence)
        if not 0.0 <= self.margin < 1.0:
            raise ValueError(f"a margin lies between 0 and 1, not {self.margin}")

    @property
    def alpha(self) -> float:
        """One-sided level of the whole family of tests: 0.025 at a confidence of 0.95."""
        return (1.0 - self.confidence) / 2.0

    def to_json(self) -> dict[str, Any]:
        """Every rule, by name."""
        return {
            "margin": self.margin,
            "confidence": self.confidence,
            "min_cases": self.min_cases,
            "min_cases_per_segment": self.min_cases_per_segment,
            "segment_thresholds": dict(sorted(self.segment_thresholds.items())),
            "n_resamples": self.n_resamples,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True)
class SegmentComparison:
    """One segment, or the total, of a comparison."""

    segment: str
    n: int
    before_rate: float | None
    after_rate: float | None
    delta: float | None
    """after - before; negative is worse."""
    interval: Interval | None
    """Of delta, two-sided, for this row alone; None where no pair differs, or too few scores do."""
    interval_method: str | None
    """"score" (Tango, for 0/1 scores) or "bootstrap"."""
    bootstrap: Interval | None
    """Of delta, by resampling; None where too few pairs differ for it to be one."""
    mcnemar_p: float | None
    """Two-sided exact McNemar test of worse against better pairs; 1 where no pair differs."""
    worse_p: float | None
    """One-sided: the chance of a drop this large if the two sides of each pair were alike."""
    holm_p: float | None
    """`worse_p` adjusted over the total and all gated segments; None where not gated."""
    n_worse: int
    n_better: int
    discordance_upper: float | None
    """Exact upper bound of the share of cases that differ at all, one-sided."""
    minimum_detectable_effect: float | None
    """The smallest true drop that this many cases prove with 80 % probability; where no pair
    differs, the exact bound above which a drop would have shown. None: not even the largest."""
    is_gated: bool
    is_above_margin: bool | None
    """The observed drop is larger than the margin, proven or not."""
    is_regression: bool | None
    """Observed above the margin and proven; None where there are too few cases to gate."""
    threshold: float | None
    is_below_threshold: bool | None
    """The observed rate is under the threshold; None without one, or not gated."""
    is_threshold_in_reach: bool | None
    """The threshold is inside `after_interval` or under it: a shortfall may be chance."""
    after_interval: Interval | None
    """Exact interval of `after_rate` (Clopper-Pearson); None where scores are not 0 or 1."""

    def to_json(self) -> dict[str, Any]:
        """Every field; an interval is {low, high}, undefined is null."""
        values = {name: getattr(self, name) for name in self.__slots__}
        return {
            name: value._asdict() if isinstance(value, Interval) else value
            for name, value in values.items()
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides compared over one suite."""

    before_name: str
    after_name: str
    rules: ComparisonRules
    is_binary: bool
    """Every score is 0 or 1."""
    total: SegmentComparison
    segments: tuple[SegmentComparison, ...]
    """Every segment of the suite, by name; ungated ones too."""
    minimum_detectable_effect: float | None
    """Of the total."""
    false_block_rate: float
    """At most this share of candidates that are no worse is found worse anywhere; 0: no test.

    Kept exactly where `is_binary`, approximately for other scores (docs/statistics.md)."""
    n_tests: int
    """Size of Holm's family: the total and the gated segments."""
    unknown_thresholds: tuple[str, ...]
    """Segments that have a threshold and no case."""

    @property
    def worst(self) -> SegmentComparison | None:
        """The gated segment with the lowest delta."""
        gated = [(item.delta, item.segment, item) for item in self.segments if item.is_gated]
        ordered = sorted((delta, name, item) for delta, name, item in gated if delta is not None)
        return ordered[0][2] if ordered else None

    @property
    def regressions(self) -> tuple[SegmentComparison, ...]:
        """Total and gated segments that are proven worse, total first."""
        return tuple(item for item in self._tested() if item.is_regression)

    @property
    def unproven(self) -> tuple[SegmentComparison, ...]:
        """Total and gated segments with a drop above the margin that may be chance."""
        return tuple(
            item for item in self._tested() if item.is_above_margin and item.is_regression is False
        )

    @property
    def below_threshold(self) -> tuple[SegmentComparison, ...]:
        """Gated segments whose observed rate is under their threshold."""
        return tuple(item for item in self.segments if item.is_below_threshold)

    @property
    def is_regression(self) -> bool | None:
        """True: proven anywhere. None: nowhere, and the total has too few cases to say."""
        return True if self.regressions else self.total.is_regression

    def _tested(self) -> tuple[SegmentComparison, ...]:
        """The rows of Holm's family: a suite of one segment is not tested twice."""
        if self.total.is_gated and len(self.segments) == 1:
            return (self.total,)
        return tuple(item for item in (self.total, *self.segments) if item.is_gated)

    def to_json(self) -> dict[str, Any]:
        """Every field of the comparison; undefined is null."""
        return {
            "before_name": self.before_name,
            "after_name": self.after_name,
            "rules": self.rules.to_json(),
            "is_binary": self.is_binary,
            "total": self.total.to_json(),
            "segments": [item.to_json() for item in self.segments],
            "minimum_detectable_effect": self.minimum_detectable_effect,
            "false_block_rate": self.false_block_rate,
            "n_tests": self.n_tests,
            "unknown_thresholds": list(self.unknown_thresholds),
            "is_regression": self.is_regression,
            "detectable": detectable_sentence(self),
        }


def compare(
    pairs: Sequence[PairedScore], *, rules: ComparisonRules, before_name: str, after_name: str
) -> Comparison:
    """Compare two sides case by case, in total and per segment.

    The same pairs in any order give the same comparison. A segment's own numbers do not depend on
    the other segments; what depends on the number of tests (`holm_p`, `is_regression`, the
    detectable effect) does.

    Raises:
        ValueError: a case twice, or a score outside 0..1.
    """
    check_pairs(pairs)
    groups: dict[str, list[PairedScore]] = {}
    for pair in pairs:
        groups.setdefault(pair.segment, []).append(pair)
    sizes = {name: len(groups[name]) for name in sorted(groups)}
    gated = [name for name, n in sizes.items() if n >= rules.min_cases_per_segment]
    is_total_gated = len(pairs) >= max(1, rules.min_cases)
    n_tests = _n_tests(is_total_gated, n_gated=len(gated), n_segments=len(sizes))
    method = _method(rules, is_binary=is_binary(pairs), n_tests=n_tests)
    total = measure_pairs(pairs, method, key=TOTAL)
    measures = {name: measure_pairs(groups[name], method, key=f"segment {name}") for name in sizes}
    if len(sizes) == 1:
        measures = dict.fromkeys(sizes, total)
    tested: dict[str | None, PairedMeasures] = {None: total} if is_total_gated else {}
    tested.update((name, measures[name]) for name in gated)
    holm = _holm(tested, n_tests=n_tests)
    limits = rules.segment_thresholds
    return Comparison(
        before_name=before_name,
        after_name=after_name,
        rules=rules,
        is_binary=method.is_binary,
        total=_row(TOTAL, total, rules, holm_p=holm.get(None), threshold=None),
        segments=tuple(
            _row(name, item, rules, holm_p=holm.get(name), threshold=limits.get(name))
            for name, item in measures.items()
        ),
        minimum_detectable_effect=total.minimum_detectable_effect,
        false_block_rate=rules.alpha if n_tests else 0.0,
        n_tests=n_tests,
        unknown_thresholds=tuple(sorted(set(limits) - set(sizes))),
    )


def detectable_sentence(comparison: Comparison) -> str:
    """What the suite can rule out, in total and in its weakest gated segment, in one sentence.

    In points, rounded up: a claim is never larger than what was computed.
    """
    confidence = f"{100 * comparison.rules.confidence:g} % confidence"
    total = comparison.total
    effect = total.minimum_detectable_effect
    if effect is None:
        return (
            f"This suite is too small to rule out any regression at {confidence}: "
            f"it has {total.n} cases."
        )
    text = f"This suite can rule out a regression above {_points(effect)} points in total"
    gated = [item for item in comparison.segments if item.is_gated]
    if len(comparison.segments) > 1 and gated:
        weakest = max(gated, key=_detectable_of)
        size = weakest.minimum_detectable_effect
        text += f" ({'none at all' if size is None else _points(size)} in segment "
        text += f"{weakest.segment})"
    if total.n_worse + total.n_better == 0:
        return f"{text}, at {confidence}: no case scored differently."
    return f"{text}: one of that size is found with 80 % probability at {confidence}."


def _detectable_of(item: SegmentComparison) -> tuple[float, str]:
    effect = item.minimum_detectable_effect
    return (math.inf if effect is None else effect, item.segment)


def _points(share: float) -> str:
    digits = 1 if share >= 0.01 else 2
    scale = 10.0**digits
    return f"{math.ceil(100.0 * share * scale - 1e-6) / scale:.{digits}f}"


def _n_tests(is_total_gated: bool, *, n_gated: int, n_segments: int) -> int:
    # One segment is the total under another name: testing both would only weaken each.
    if n_segments == 1:
        return max(int(is_total_gated), n_gated)
    return int(is_total_gated) + n_gated


def _method(rules: ComparisonRules, *, is_binary: bool, n_tests: int) -> Method:
    return Method(
        confidence=rules.confidence,
        margin=rules.margin,
        n_resamples=rules.n_resamples,
        seed=rules.seed,
        is_binary=is_binary,
        n_tests=max(1, n_tests),
    )


def _holm(tested: Mapping[str | None, PairedMeasures], *, n_tests: int) -> dict[str | None, float]:
    """Holm's p-values of the gated rows; the total's key is None, which no segment is named."""
    ps = {name: item.worse_p for name, item in tested.items() if item.worse_p is not None}
    if len(ps) > n_tests:
        return ps
    return dict(zip(ps, holm_adjusted(list(ps.values())), strict=True))


def _row(
    name: str,
    measures: PairedMeasures,
    rules: ComparisonRules,
    *,
    holm_p: float | None,
    threshold: float | None,
) -> SegmentComparison:
    """The measures and what they decide; a row without `holm_p` is not gated."""
    judged = None if holm_p is None else threshold
    delta, interval = measures.delta, measures.interval
    is_above = None if delta is None else delta < -rules.margin - _ROUNDING
    is_regression = None
    if holm_p is not None:
        is_excluded = interval is None or interval.high < 0.0
        is_regression = bool(is_above) and is_excluded and holm_p <= rules.alpha
    rate, reach = measures.after_rate, measures.after_interval
    return SegmentComparison(
        segment=name,
        n=measures.n,
        before_rate=measures.before_rate,
        after_rate=measures.after_rate,
        delta=delta,
        interval=interval,
        interval_method=measures.interval_method,
        bootstrap=measures.bootstrap,
        mcnemar_p=measures.mcnemar_p,
        worse_p=measures.worse_p,
        holm_p=holm_p,
        n_worse=measures.n_worse,
        n_better=measures.n_better,
        discordance_upper=measures.discordance_upper,
        minimum_detectable_effect=measures.minimum_detectable_effect,
        is_gated=holm_p is not None,
        is_above_margin=is_above,
        is_regression=is_regression,
        threshold=threshold,
        is_below_threshold=None if judged is None or rate is None else rate < judged,
        is_threshold_in_reach=None if judged is None or reach is None else judged <= reach.high,
        after_interval=reach,
    )
