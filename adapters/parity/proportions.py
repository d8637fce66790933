"""One proportion, exactly: binomial tails and Clopper-Pearson bounds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from adapters.parity.statistics import Interval, check_confidence

_HALVINGS = 200
"""At most; a bisection ends sooner, where two neighbouring floats are left."""
_TINY = 1e-300
_MAX_TERMS = 100_000
"""Of the continued fraction, which needs about the square root of n of them."""


def binomial_at_most(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p): the incomplete beta function I_{1-p}(n - k, k + 1).

    Source: DLMF 8.17.5. Relative error under 1e-9 for n up to 100,000.
    """
    if k < 0:
        return 0.0
    if k >= n:
        return 1.0
    return _regularised_beta(float(n - k), k + 1.0, 1.0 - p, p)


def binomial_at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) for X ~ Binomial(n, p): the incomplete beta function I_p(k, n - k + 1)."""
    if k <= 0:
        return 1.0
    if k > n:
        return 0.0
    return _regularised_beta(float(k), n - k + 1.0, p, 1.0 - p)


def clopper_pearson_upper(n_events: int, n: int, *, confidence: float) -> float | None:
    """Exact one-sided upper bound of a proportion; None where n is 0.

    The largest p under which `n_events` or fewer in n still have a probability of 1 - confidence
    (Clopper and Pearson 1934, Biometrika 26, 404-413). With no event it is
    1 - (1 - confidence)**(1/n): "none of 60 failed" rules out a rate above 5 %.

    Raises:
        ValueError: counts that cannot be, or a confidence outside (0, 1).
    """
    _check(n_events, n, confidence)
    if n == 0:
        return None
    if n_events == n:
        return 1.0
    if n_events == 0:
        return -math.expm1(math.log1p(-confidence) / n)
    return _upper_root(n_events, n, 1.0 - confidence)


def clopper_pearson_lower(n_events: int, n: int, *, confidence: float) -> float | None:
    """Exact one-sided lower bound: the upper bound of what did not happen, from 1 down.

    Raises:
        ValueError: counts that cannot be, or a confidence outside (0, 1).
    """
    _check(n_events, n, confidence)
    if n == 0:
        return None
    if n_events == 0:
        return 0.0
    return _lower_root(n_events, n, 1.0 - confidence)


def clopper_pearson_interval(n_events: int, n: int, *, confidence: float) -> Interval | None:
    """Exact two-sided interval: both one-sided bounds, each at (1 + confidence) / 2.

    Raises:
        ValueError: counts that cannot be, or a confidence outside (0, 1).
    """
    _check(n_events, n, confidence)
    each = 0.5 + confidence / 2.0
    low = clopper_pearson_lower(n_events, n, confidence=each)
    high = clopper_pearson_upper(n_events, n, confidence=each)
    return None if low is None or high is None else Interval(low, high)


def _check(n_events: int, n: int, confidence: float) -> None:
    check_confidence(confidence)
    if not 0 <= n_events <= n:
        raise ValueError(f"{n_events} events of {n}")


@lru_cache(maxsize=4096)
def _upper_root(n_events: int, n: int, alpha: float) -> float:
    return _root(lambda p: binomial_at_most(n_events, n, p) > alpha, n_events / n, 1.0)


@lru_cache(maxsize=4096)
def _lower_root(n_events: int, n: int, alpha: float) -> float:
    return _root(lambda p: binomial_at_least(n_events, n, p) <= alpha, 0.0, n_events / n)


def _root(is_left: Callable[[float], bool], low: float, high: float) -> float:
    """Where `is_left` turns from True to False between low and high."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if is_left(middle):
            low = middle
        else:
            high = middle
    return high


def _regularised_beta(a: float, b: float, x: float, y: float) -> float:
    """I_x(a, b) with y = 1 - x given, because 1 - x loses the digits of a small y.

    The continued fraction converges fast for x below (a + 1) / (a + b + 2); above it, use
    I_x(a, b) = 1 - I_y(b, a) (DLMF 8.17.4 and 8.17.22).
    """
    if x <= 0.0:
        return 0.0
    if y <= 0.0:
        return 1.0
    log_front = (
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        + a * (math.log(x) if x < 0.5 else math.log1p(-y))
        + b * (math.log(y) if y < 0.5 else math.log1p(-x))
    )
    front = math.exp(log_front)
    if x < (a + 1.0) / (a + b + 2.0):
        return min(1.0, front * _beta_fraction(a, b, x) / a)
    return max(0.0, 1.0 - front * _beta_fraction(b, a, y) / b)


def _beta_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of DLMF 8.17.22 by the modified Lentz method (DLMF 3.10(iii))."""
    c = 1.0
    d = 1.0 / _away_from_zero(1.0 - (a + b) * x / (a + 1.0))
    value = d
    for m in range(1, _MAX_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1.0) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1.0))
        for coefficient in (even, odd):
            d = 1.0 / _away_from_zero(1.0 + coefficient * d)
            c = _away_from_zero(1.0 + coefficient / c)
            value *= c * d
        if abs(c * d - 1.0) < 1e-15:
            break
    return value


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
