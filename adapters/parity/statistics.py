"""What every statistic of the gate shares: intervals, levels and the correction for many tests.

Pure; undefined is None, never a number. Proportions, pairs, resampling and power are in modules of
these names beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def check_confidence(confidence: float) -> None:
    """Refuse a confidence that is none.

    Raises:
        ValueError: not strictly between 0 and 1.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"a confidence lies between 0 and 1, not {confidence}")


def two_sided_z(confidence: float) -> float:
    """The normal quantile that leaves (1 - confidence) / 2 above it: 1.96 for 0.95.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    check_confidence(confidence)
    return NormalDist().inv_cdf(0.5 + confidence / 2.0)


def holm_adjusted(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down adjusted p-values, in the order given.

    With m tests and p sorted ascending, the i-th adjusted value is the largest of
    min(1, (m - j + 1) p_j) over j <= i. Rejecting what is at or below alpha keeps the chance of any
    false rejection at or below alpha, however the tests depend on each other (Holm 1979,
    Scandinavian Journal of Statistics 6, 65-70).

    Raises:
        ValueError: a value outside 0..1.
    """
    if not all(0.0 <= p <= 1.0 for p in p_values):
        raise ValueError("a p-value lies between 0 and 1")
    m = len(p_values)
    adjusted = [0.0] * m
    largest = 0.0
    for rank, index in enumerate(sorted(range(m), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = largest
    return tuple(adjusted)
