"""Confidence intervals of a mean from few rounds: Student's t with a pooled spread. Pure.

Undefined is None, never a number.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from adapters.parity.statistics import Interval, check_confidence

_BISECTIONS = 80
"""Halvings of [0, 1e6]: below a double's resolution of any quantile that is asked for here."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A standard deviation and how much stands behind it."""

    deviation: float
    degrees: int


def student_cdf(t: float, degrees: int) -> float:
    """P(T <= t) of Student's t with `degrees` degrees of freedom, a whole number of at least 1.

    The finite sums of Abramowitz & Stegun 26.7.3 (odd) and 26.7.4 (even).

    Raises:
        ValueError: `degrees` below 1.
    """
    if degrees < 1:
        raise ValueError(f"Student's t has at least one degree of freedom, not {degrees}")
    theta = math.atan(abs(t) / math.sqrt(degrees))
    sine, cosine = math.sin(theta), math.cos(theta)
    is_odd = degrees % 2 == 1
    term, total = (cosine, 0.0) if is_odd else (1.0, 0.0)
    for k in range(degrees // 2):
        total += term
        step = 2 * k + (2 if is_odd else 1)
        term *= cosine**2 * step / (step + 1)
    central = 2 / math.pi * (theta + sine * total) if is_odd else sine * total
    return 0.5 + math.copysign(central / 2, t)


@cache
def student_quantile(confidence: float, degrees: int) -> float:
    """The t that leaves (1 - confidence) / 2 above it: 12.706 for 0.95 and one degree.

    Raises:
        ValueError: a confidence outside (0, 1), or `degrees` below 1.
    """
    check_confidence(confidence)
    wanted = 0.5 + confidence / 2
    low, high = 0.0, 1e6
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if student_cdf(middle, degrees) < wanted:
            low = middle
        else:
            high = middle
    return high


def pooled_spread(groups: Sequence[Sequence[float]]) -> Spread | None:
    """The spread within groups, all of them taken together; None without two values in any.

    One variance for all of them: on a log scale, rounds of one machine scatter alike, and two
    rounds of one setting say nearly nothing about a spread.
    """
    squares, degrees = 0.0, 0
    for group in groups:
        if len(group) > 1:
            squares += statistics.variance(group) * (len(group) - 1)
            degrees += len(group) - 1
    return Spread(math.sqrt(squares / degrees), degrees) if degrees else None


def mean_interval(
    values: Sequence[float], *, spread: Spread | None, confidence: float
) -> Interval | None:
    """Interval of the mean of independent rounds; None where nothing is known of their spread.

    `spread` is the pooled one, these values in it. Where these scatter more than the pool, their
    own deviation counts: a setting that is restless must not borrow another's calm.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    check_confidence(confidence)
    if not values or spread is None:
        return None
    own = statistics.stdev(values) if len(values) > 1 else 0.0
    mean = statistics.fmean(values)
    half = student_quantile(confidence, spread.degrees) * max(own, spread.deviation)
    half /= math.sqrt(len(values))
    return Interval(mean - half, mean + half)
