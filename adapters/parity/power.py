"""What a suite can see: the smallest true drop that the paired test finds. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from adapters.parity.discordance import worse_p
from adapters.parity.proportions import binomial_at_least, clopper_pearson_upper
from adapters.parity.statistics import check_confidence

POWER = 0.8
"""Probability with which a drop of the minimum detectable effect is found; a convention."""
_TAIL_SDS = 9.0
"""Discordant counts further than this from the expected one have a probability under 1e-15."""
_PRECISION = 1e-6
"""Of an effect, as a share of the cases."""

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def drop_power(
    n: int, *, p_worse: float, p_better: float, alpha: float, margin: float = 0.0
) -> float:
    """Probability that n pairs prove a drop: one-sided exact McNemar p <= alpha, and the observed
    drop above `margin`.

    Exact: the sum over the number D ~ Binomial(n, p_worse + p_better) of discordant pairs of the
    chance that Binomial(D, p_worse / (p_worse + p_better)) reaches the least count that rejects.

    Raises:
        ValueError: probabilities that cannot be.
    """
    discordance = p_worse + p_better
    if not (min(p_worse, p_better) >= 0.0 and discordance <= 1.0 + 1e-12 and 0.0 < alpha < 1.0):
        raise ValueError(f"{p_worse} worse, {p_better} better at level {alpha}")
    if n <= 0 or discordance <= 0.0:
        return 0.0
    discordance = min(discordance, 1.0)
    spread = _TAIL_SDS * math.sqrt(n * discordance * (1.0 - discordance)) + _TAIL_SDS**2
    first = max(0, math.floor(n * discordance - spread))
    last = min(n, math.ceil(n * discordance + spread))
    counts = np.arange(first, last + 1)
    needed = np.maximum(
        np.asarray(_critical_counts(_next_power_of_two(last), alpha)[first : last + 1]),
        np.floor((counts + n * margin) / 2.0 + 1e-9).astype(np.int64) + 1,
    )
    chances = np.exp(_log_binomial(counts, np.int64(n), discordance))
    found = _tails(counts, needed, min(1.0, p_worse / discordance))
    return float(min(1.0, np.sum(chances * found)))


def minimum_detectable_effect(
    n: int,
    *,
    discordance: float,
    confidence: float,
    margin: float = 0.0,
    n_tests: int = 1,
) -> float | None:
    """The smallest true drop of the pass rate that n pairs prove with a probability of 0.8.

    `discordance` is the share of pairs that differ; a drop larger than it raises it to the drop.
    The test is one-sided exact McNemar at (1 - confidence) / 2 / n_tests: the first, strictest step
    of Holm. With a discordance of 0 it is the exact bound instead: a true drop above the
    Clopper-Pearson upper bound would have made at least one pair differ, with `confidence`. None
    where no drop can be proven: not even if every case got worse.

    Raises:
        ValueError: a discordance outside 0..1, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    if not 0.0 <= discordance <= 1.0:
        raise ValueError(f"a discordance lies between 0 and 1, not {discordance}")
    if discordance == 0.0:
        return clopper_pearson_upper(0, n, confidence=confidence)
    return _least_drop(n, discordance, (1.0 - confidence) / 2.0 / n_tests, margin)


@lru_cache(maxsize=1024)
def _least_drop(n: int, discordance: float, alpha: float, margin: float) -> float | None:
    def power(drop: float) -> float:
        both = max(discordance, drop)
        p_worse = (both + drop) / 2.0
        return drop_power(n, p_worse=p_worse, p_better=both - p_worse, alpha=alpha, margin=margin)

    if n == 0 or worse_p(n, 0) > alpha or margin >= 1.0:
        return None
    guess = margin + math.sqrt(discordance / n)
    return _smallest(lambda drop: power(drop) >= POWER, guess=min(1.0, guess))


def mean_detectable_effect(
    n: int, *, deviation: float, confidence: float, margin: float = 0.0, n_tests: int = 1
) -> float | None:
    """The same for scores that are not 0 or 1, by the normal approximation.

    With e = deviation / sqrt(n), the standard error of the mean difference:
    max(z_alpha e, margin) + z_power e. None under two cases or without deviation.

    Raises:
        ValueError: a negative deviation, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    if not deviation >= 0.0:
        raise ValueError(f"a standard deviation is not {deviation}")
    if n < 2 or deviation == 0.0:
        return None
    error = deviation / math.sqrt(n)
    normal = NormalDist()
    z_alpha = normal.inv_cdf(1.0 - (1.0 - confidence) / 2.0 / n_tests)
    return min(1.0, max(z_alpha * error, margin) + normal.inv_cdf(POWER) * error)


def _smallest(is_found: Callable[[float], bool], *, guess: float) -> float:
    """Bisection; from a guess up, because large drops are the slow ones to compute."""
    low, high = 0.0, guess
    while high < 1.0 and not is_found(high):
        low, high = high, min(1.0, 2.0 * high)
    while high - low > _PRECISION:
        middle = (low + high) / 2.0
        low, high = (low, middle) if is_found(middle) else (middle, high)
    return high


def _next_power_of_two(value: int) -> int:
    """So that few distinct sizes are asked for, and kept."""
    return 1 << max(value, 1).bit_length()


@lru_cache(maxsize=64)
def _critical_counts(largest: int, alpha: float) -> tuple[int, ...]:
    """For 0..largest discordant pairs, the least number of worse ones with worse_p <= alpha.

    One more pair raises it by one or leaves it. Where no number suffices it is the count plus one.
    """
    needed: list[int] = []
    least = 1
    for count in range(largest + 1):
        while least <= count and _fair_tail(least, count) > alpha:
            least += 1
        needed.append(min(max(least, 1), count + 1))
    return tuple(needed)


def _fair_tail(k: int, n: int) -> float:
    # In integers while that is cheap; above, the incomplete beta function.
    return worse_p(k, n - k) if n <= 200 else binomial_at_least(k, n, 0.5)


def _log_factorials(largest: int) -> Floats:
    return np.concatenate(([0.0], np.cumsum(np.log(np.arange(1.0, largest + 1.0)))))


def _log_binomial(k: Ints, n: Ints | np.int64, p: float) -> Floats:
    """Logarithm of P(X = k); minus infinity where p makes k impossible."""
    table = _log_factorials(int(np.max(n)))
    ways = table[n] - table[k] - table[n - k]
    return np.asarray(ways + _times_log(k, p) + _times_log(n - k, 1.0 - p))


def _times_log(count: Ints, p: float) -> Floats:
    if p > 0.0:
        return np.asarray(count * math.log(p))
    return np.where(count == 0, 0.0, -np.inf)


def _tails(counts: Ints, needed: Ints, p: float) -> Floats:
    """P(Binomial(D, p) >= needed) for each D of `counts`, which are consecutive.

    From one D to the next the tail at the same count k grows by p P(X_D = k - 1), and a k that is
    one larger takes P(X_{D+1} = k) off again.
    """
    grown = np.zeros(counts.size)
    grown[0] = binomial_at_least(int(needed[0]), int(counts[0]), p)
    k, n = needed[:-1], counts[:-1]
    is_possible = (k >= 1) & (k - 1 <= n)
    gain = np.where(is_possible, p * np.exp(_log_binomial(np.clip(k - 1, 0, n), n, p)), 0.0)
    has_risen = (needed[1:] > k) & (k <= n + 1)
    loss = np.where(has_risen, np.exp(_log_binomial(np.clip(k, 0, n + 1), n + 1, p)), 0.0)
    grown[1:] = gain - loss
    return np.clip(np.cumsum(grown), 0.0, 1.0)
