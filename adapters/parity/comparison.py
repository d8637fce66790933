"""Level 3 decided: is the candidate worse than what it is compared with, in total or in a segment?

Pure. One comparison is paired per case; what cannot be known is None, never a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from adapters.parity.statistics import Interval


@dataclass(frozen=True, slots=True)
class PairedScore:
    """One case scored on both sides: pass as 0 or 1, or any score between them."""

    case_id: str
    segment: str
    before: float
    after: float


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
    """Of delta, two-sided, for this segment alone; None where no pair differs."""
    mcnemar_p: float | None
    """Two-sided exact McNemar test; 1 where no pair differs."""
    worse_p: float | None
    """One-sided: the chance of a drop this large if both sides answered alike."""
    holm_p: float | None
    """`worse_p` adjusted over the total and all gated segments; None where not gated."""
    n_worse: int
    n_better: int
    discordance_upper: float | None
    """Exact upper bound of the share of cases that differ at all."""
    minimum_detectable_effect: float | None
    """The smallest true drop that this many cases find with 80 % probability."""
    is_gated: bool
    is_above_margin: bool | None
    """The observed drop is larger than the margin, proven or not."""
    is_regression: bool | None
    """Observed beyond the margin and proven; None where too few cases say anything."""
    threshold: float | None = None
    is_below_threshold: bool | None = None
    """The observed rate is under the threshold; None without one, or not gated."""
    is_threshold_in_reach: bool | None = None
    """The exact interval of the observed rate still holds the threshold: it may be chance."""
    after_interval: Interval | None = None
    """Exact interval of `after_rate` (Clopper-Pearson); None where scores are not 0 or 1."""

    def to_json(self) -> dict[str, Any]:
        """Every field; undefined is null."""
        raise RuntimeError


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides compared over one suite."""

    before_name: str
    after_name: str
    rules: ComparisonRules
    total: SegmentComparison
    segments: tuple[SegmentComparison, ...]
    """Every segment of the suite, by name; ungated ones too."""
    minimum_detectable_effect: float | None
    """Of the total."""
    false_block_rate: float
    """At most this share of candidates that are no worse is found worse anywhere."""
    n_tests: int
    """Size of Holm's family: the total and the gated segments."""
    unknown_thresholds: tuple[str, ...]
    """Segments that have a threshold and no case."""

    @property
    def worst(self) -> SegmentComparison | None:
        """The gated segment with the lowest delta."""
        gated = [item for item in self.segments if item.is_gated and item.delta is not None]
        return min(gated, key=lambda item: (item.delta, item.segment), default=None)

    @property
    def regressions(self) -> tuple[SegmentComparison, ...]:
        """Total and gated segments that are proven worse, total first."""
        return tuple(item for item in (self.total, *self.segments) if item.is_regression)

    def to_json(self) -> dict[str, Any]:
        """Every field of the comparison; undefined is null."""
        raise RuntimeError


def compare(
    pairs: Sequence[PairedScore], *, rules: ComparisonRules, before_name: str, after_name: str
) -> Comparison:
    """Compare two sides case by case.

    Raises:
        ValueError: a case twice, or a score outside 0..1.
    """
    raise RuntimeError


def detectable_sentence(comparison: Comparison) -> str:
    """What the suite can and cannot rule out, in one sentence."""
    raise RuntimeError
