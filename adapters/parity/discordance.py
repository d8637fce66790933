"""Pairs of 0/1 scores, of which only the discordant ones inform: exact McNemar, score interval.

`n_worse` pairs passed before and fail now, `n_better` the other way round. Pure.
"""

from __future__ import annotations

import math
from functools import lru_cache

from adapters.parity.statistics import Interval, two_sided_z

_HALVINGS = 80
"""Of an interval of length 2: past the resolution of a float."""


def mcnemar_p(n_worse: int, n_better: int) -> float:
    """Two-sided exact McNemar test that worse and better are equally likely.

    Twice the smaller tail of Binomial(n_worse + n_better, 1/2), at most 1; no mid-p correction, so
    the level is never exceeded (McNemar 1947, Psychometrika 12, 153-157). With no discordant pair
    it is 1: nothing speaks against equality.

    Raises:
        ValueError: a negative count.
    """
    return min(1.0, 2.0 * min(worse_p(n_worse, n_better), worse_p(n_better, n_worse)))


def worse_p(n_worse: int, n_better: int) -> float:
    """One-sided exact McNemar test: P(X >= n_worse) for X ~ Binomial(n_worse + n_better, 1/2).

    Summed in integers, so the result is the nearest float to the true value.

    Raises:
        ValueError: a negative count.
    """
    if n_worse < 0 or n_better < 0:
        raise ValueError(f"{n_worse} worse and {n_better} better")
    # Integers of numpy would overflow, and be found in the cache by later calls.
    return _fair_tail(int(n_worse), int(n_better))


@lru_cache(maxsize=65536)
def _fair_tail(n_worse: int, n_better: int) -> float:
    n = n_worse + n_better
    # P(X >= n_worse) = P(X <= n_better); the shorter side is summed.
    n_terms = min(n_better, n_worse - 1)
    term = total = 1 if n_terms >= 0 else 0
    for i in range(n_terms):
        term = term * (n - i) // (i + 1)
        total += term
    if n_better <= n_worse - 1:
        return total / (1 << n)
    return ((1 << n) - total) / (1 << n)


def score_interval(n_worse: int, n_better: int, n: int, *, confidence: float) -> Interval | None:
    """Two-sided interval of the change of the pass rate, (better - worse) / n; None where n is 0.

    Tango's score interval: every change d that the score test does not reject,
    |better - worse - n d| <= z sqrt(n (2 q + d (1 - d))), with q the most likely share of worse
    pairs under d, the larger root of 2n q^2 + B q - n_worse d (1 - d) = 0 with
    B = (2n - better + worse) d - better - worse (Tango 1998, Statistics in Medicine 17, 891-908).
    At d = 0 it is McNemar's test without correction, so an exact McNemar p at or below
    (1 - confidence) / 2 on one side means that the interval excludes zero.

    Raises:
        ValueError: counts that cannot be, or a confidence outside (0, 1).
    """
    z = two_sided_z(confidence)
    if min(n_worse, n_better) < 0 or n_worse + n_better > n:
        raise ValueError(f"{n_worse} worse and {n_better} better of {n}")
    if n == 0:
        return None
    high = _upper(n_worse, n_better, n, z)
    # Exchanging the sides turns the interval round.
    return Interval(-_upper(n_better, n_worse, n, z), high)


def _upper(n_worse: int, n_better: int, n: int, z: float) -> float:
    low, high = (n_better - n_worse) / n, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if _score(n_worse, n_better, n, middle) >= -z:
            low = middle
        else:
            high = middle
    return high


def _score(n_worse: int, n_better: int, n: int, change: float) -> float:
    linear = (2 * n - n_better + n_worse) * change - n_better - n_worse
    free = n_worse * change * (1.0 - change)
    q = (math.sqrt(max(linear * linear + 8.0 * n * free, 0.0)) - linear) / (4.0 * n)
    variance = n * (2.0 * q + change * (1.0 - change))
    distance = n_better - n_worse - n * change
    if variance <= 0.0:
        return 0.0 if distance == 0.0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
