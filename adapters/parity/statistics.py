"""Statistics of a paired comparison. Pure; undefined is None, never a number; seeds are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_BISECTIONS = 60
"""Halvings of [0, 1]: past the resolution of a float."""
_CHUNK = 2_000_000
"""Resampled values held at once, 16 MB."""


class Interval(NamedTuple):
    """A confidence interval, both ends included."""

    low: float
    high: float


def clopper_pearson_upper(n_events: int, n: int, *, confidence: float) -> float | None:
    """Exact one-sided upper bound of a proportion; None where n is 0.

    The largest p under which `n_events` or fewer in n still has a probability of 1 - confidence.
    With no event it is 1 - (1 - confidence)**(1/n): "none of 60 failed" rules out a rate above 5 %.

    Raises:
        ValueError: counts that cannot be, or a confidence outside (0, 1).
    """
    if not 0 <= n_events <= n or not 0.0 < confidence < 1.0:
        raise ValueError(f"{n_events} of {n} at confidence {confidence}")
    if n == 0:
        return None
    if n_events == n:
        return 1.0
    low, high = n_events / n, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        # The cumulative probability falls as p grows.
        if _binomial_cdf(n_events, n, middle) > 1.0 - confidence:
            low = middle
        else:
            high = middle
    return high


def _binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p) with k < n, summed in logarithms."""
    if p >= 1.0:
        return 0.0
    log_p, log_q = math.log(p), math.log1p(-p)
    log_all = math.lgamma(n + 1)
    terms = [
        log_all - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q
        for i in range(k + 1)
    ]
    return math.fsum(math.exp(term) for term in terms)


def paired_bootstrap(
    differences: Sequence[float], *, seed: int, confidence: float, n_resamples: int = 10_000
) -> Interval | None:
    """Percentile interval of the mean of per-case differences; None under two cases.

    Cases are resampled whole, so the pairing of both sides is kept. Also None where every
    difference is the same: resampling then shows no variance, which is not the absence of any (use
    `clopper_pearson_upper` on the discordant pairs).

    Raises:
        ValueError: a difference that is not finite, or a confidence outside (0, 1).
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all() or not 0.0 < confidence < 1.0:
        raise ValueError("differences must be finite and confidence between 0 and 1")
    if values.size < 2 or bool((values == values[0]).all()):
        return None
    generator = np.random.default_rng(seed)
    means = np.empty(n_resamples)
    step = max(1, _CHUNK // values.size)
    for start in range(0, n_resamples, step):
        stop = min(start + step, n_resamples)
        picks = generator.integers(0, values.size, size=(stop - start, values.size))
        means[start:stop] = values[picks].mean(axis=1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(float(low), float(high))
