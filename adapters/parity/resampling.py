"""What resampling says about per-case differences: a bootstrap interval and a sign-flip test.

Pure: seeds are given, and the order of the cases does not matter. Cases are resampled whole, so the
pairing of both sides is kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from adapters.parity.statistics import Interval, check_confidence

_CHUNK = 400_000
"""Values held at once: small enough to stay in a core's cache, where gathering is fastest."""
_FEW_VALUES = 32
"""Up to this many distinct differences, drawing how often each occurs beats drawing cases."""
_DEGENERATE = 1e-12
"""A resample with less than this share of the sample's variance has none, but for rounding."""

Floats = NDArray[np.float64]


def paired_bootstrap(
    differences: Sequence[float], *, seed: int, confidence: float, n_resamples: int = 10_000
) -> Interval | None:
    """Bootstrap interval of the mean difference, symmetric and studentised; None where undefined.

    Each resample draws n cases with replacement and gives t = (its mean - mean) / its standard
    deviation; the interval is mean +- q s with q the `confidence` quantile of |t| and s the
    sample's own standard deviation (Hall 1988, Journal of the Royal Statistical Society B 50,
    35-45). Unlike the percentile interval it does not fall short where few cases differ.

    Drawn exactly: n cases by index, or, with few distinct differences, how often each occurs from
    the multinomial distribution, which is the same thing.

    None: under two cases; every difference equal; so few different ones that a share of
    1 - confidence of the resamples or more have no variance (about two or fewer at 0.95). That is
    not the absence of uncertainty: use `clopper_pearson_upper` on the discordant pairs.

    Raises:
        ValueError: a difference that is not finite, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    values = _checked(differences)
    if values.size < 2 or values[0] == values[-1]:
        return None
    mean = float(values.mean())
    centred = values - mean
    variance = float(np.mean(centred**2))
    means, squares = _resampled_moments(centred, np.random.default_rng(seed), n_resamples)
    variances = squares - means**2
    is_defined = variances > _DEGENERATE * variance
    ratios = np.full(n_resamples, np.inf)
    np.divide(np.abs(means), np.sqrt(np.maximum(variances, 0.0)), out=ratios, where=is_defined)
    # The next larger ratio, not one between two: infinity has no between.
    quantile = float(np.quantile(ratios, confidence, method="higher"))
    if not math.isfinite(quantile):
        return None
    half = quantile * math.sqrt(variance)
    return Interval(mean - half, mean + half)


def sign_flip_p(differences: Sequence[float], *, seed: int, n_resamples: int = 10_000) -> float:
    """One-sided p-value of a drop, if each pair could as well be the other way round.

    The share of random sign patterns whose sum of differences is at or below the observed one, with
    the observed one counted in, so it is never zero and the level is kept: (1 + hits) /
    (1 + n_resamples) (Fisher's randomisation test; Phipson and Smyth 2010, Statistical Applications
    in Genetics and Molecular Biology 9, 39). For 0/1 scores it is the one-sided exact McNemar test,
    which `worse_p` gives without sampling. 1 where nothing differs.

    Raises:
        ValueError: a difference that is not finite.
    """
    values = _checked(differences)
    sizes = np.sort(np.abs(values[values != 0.0]))
    if sizes.size == 0:
        return 1.0
    observed = math.fsum(values)
    # Sums that are equal but for rounding count as equal.
    limit = observed + 1e-9 * float(sizes.max())
    generator = np.random.default_rng(seed)
    hits, step = 0, max(1, _CHUNK // sizes.size)
    total = float(sizes.sum())
    for start in range(0, n_resamples, step):
        n_rows = min(step, n_resamples - start)
        is_positive = generator.integers(0, 2, size=(n_rows, sizes.size), dtype=np.uint8)
        sums = 2.0 * (is_positive.astype(np.float64) @ sizes) - total
        hits += int(np.count_nonzero(sums <= limit))
    return (1 + hits) / (1 + n_resamples)


def _checked(differences: Sequence[float]) -> Floats:
    """Sorted, so that the order of the cases cannot change a seeded result."""
    values = np.sort(np.asarray(differences, dtype=np.float64))
    if not np.isfinite(values).all():
        raise ValueError("a difference is not finite")
    return values


def _resampled_moments(
    values: Floats, generator: np.random.Generator, n_resamples: int
) -> tuple[Floats, Floats]:
    """Mean and mean square of each resample, both of shape (n_resamples,)."""
    distinct, counts = np.unique(values, return_counts=True)
    if distinct.size <= _FEW_VALUES:
        drawn = generator.multinomial(values.size, counts / values.size, size=n_resamples)
        return drawn @ distinct / values.size, drawn @ distinct**2 / values.size
    means, squares = np.empty(n_resamples), np.empty(n_resamples)
    step = max(1, _CHUNK // values.size)
    for start in range(0, n_resamples, step):
        rows = slice(start, min(start + step, n_resamples))
        picks = generator.integers(0, values.size, size=(rows.stop - start, values.size))
        picked = values[picks]
        means[rows] = picked.mean(axis=1)
        squares[rows] = np.einsum("ij,ij->i", picked, picked) / values.size
    return means, squares
