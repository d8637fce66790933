"""The numbers of one group of paired scores, before anything is decided from them. Pure."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapters.parity.discordance import mcnemar_p, score_interval, worse_p
from adapters.parity.power import mean_detectable_effect, minimum_detectable_effect
from adapters.parity.proportions import clopper_pearson_interval, clopper_pearson_upper
from adapters.parity.resampling import paired_bootstrap, sign_flip_p
from adapters.parity.statistics import Interval

_EQUAL = 1e-9
"""Scores that differ by less are the same score, computed in another order."""


@dataclass(frozen=True, slots=True)
class PairedScore:
    """One case scored on both sides: pass as 0 or 1, or any score between them."""

    case_id: str
    segment: str
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How groups are measured; the same for every group of a comparison."""

    confidence: float
    margin: float
    n_resamples: int
    seed: int
    is_binary: bool
    """Every score of the comparison is 0 or 1."""
    n_tests: int
    """Among how many tests a drop has to be found; the detectable effect grows with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedMeasures:
    """What is known of one group. None: undefined."""

    n: int
    n_worse: int
    n_better: int
    before_rate: float | None
    after_rate: float | None
    delta: float | None
    interval: Interval | None
    interval_method: str | None
    bootstrap: Interval | None
    mcnemar_p: float | None
    worse_p: float | None
    discordance_upper: float | None
    minimum_detectable_effect: float | None
    after_interval: Interval | None


def check_pairs(pairs: Sequence[PairedScore]) -> None:
    """Refuse what cannot be compared case by case.

    Raises:
        ValueError: a case twice, or a score outside 0..1.
    """
    seen: set[str] = set()
    for pair in pairs:
        if pair.case_id in seen:
            raise ValueError(f"case {pair.case_id} is scored twice")
        seen.add(pair.case_id)
        if not (0.0 <= pair.before <= 1.0 and 0.0 <= pair.after <= 1.0):
            raise ValueError(
                f"case {pair.case_id}: a score lies between 0 and 1, "
                f"not {pair.before} and {pair.after}"
            )


def is_binary(pairs: Sequence[PairedScore]) -> bool:
    """Whether every score is a pass or a failure."""
    return all(score in (0.0, 1.0) for pair in pairs for score in (pair.before, pair.after))


def measure_pairs(pairs: Sequence[PairedScore], method: Method, *, key: str) -> PairedMeasures:
    """Measure one group. `key` names it, and gives it random numbers of its own."""
    n = len(pairs)
    changes = _changes(pairs)
    n_worse, n_better = sum(c < 0.0 for c in changes), sum(c > 0.0 for c in changes)
    bootstrap = _within_one(
        paired_bootstrap(
            changes,
            seed=seed_of(method.seed, "bootstrap", key),
            confidence=method.confidence,
            n_resamples=method.n_resamples,
        )
    )
    interval = bootstrap
    if method.is_binary:
        interval = score_interval(n_worse, n_better, n, confidence=method.confidence)
    if n_worse + n_better == 0:
        interval = None
    name = "score" if method.is_binary else "bootstrap"
    n_passed = round(math.fsum(pair.after for pair in pairs))
    return PairedMeasures(
        n=n,
        n_worse=n_worse,
        n_better=n_better,
        before_rate=_mean([pair.before for pair in pairs]),
        after_rate=_mean([pair.after for pair in pairs]),
        delta=_mean(changes),
        interval=interval,
        interval_method=None if interval is None else name,
        bootstrap=bootstrap,
        mcnemar_p=mcnemar_p(n_worse, n_better) if n else None,
        worse_p=_worse_p(changes, n_worse, n_better, method=method, key=key) if n else None,
        discordance_upper=clopper_pearson_upper(
            n_worse + n_better, n, confidence=method.confidence
        ),
        minimum_detectable_effect=_detectable(changes, n_worse + n_better, method),
        after_interval=clopper_pearson_interval(n_passed, n, confidence=method.confidence)
        if method.is_binary
        else None,
    )


def seed_of(seed: int, *parts: str) -> int:
    """A seed of its own for each purpose and group, so that none moves when another is added."""
    text = "\0".join((str(seed), *parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _changes(pairs: Sequence[PairedScore]) -> list[float]:
    """after - before of each pair, ascending; exactly 0 where the scores are the same."""
    changes = (float(pair.after) - float(pair.before) for pair in pairs)
    return sorted(0.0 if abs(change) < _EQUAL else change for change in changes)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _within_one(interval: Interval | None) -> Interval | None:
    """Differences of scores lie between -1 and 1, and so does their mean."""
    if interval is None:
        return None
    return Interval(max(-1.0, interval.low), min(1.0, interval.high))


def _worse_p(
    changes: Sequence[float], n_worse: int, n_better: int, *, method: Method, key: str
) -> float:
    if method.is_binary:
        return worse_p(n_worse, n_better)
    seed = seed_of(method.seed, "sign flips", key)
    return sign_flip_p(changes, seed=seed, n_resamples=method.n_resamples)


def _detectable(changes: Sequence[float], n_different: int, method: Method) -> float | None:
    n = len(changes)
    if method.is_binary or n_different == 0:
        return minimum_detectable_effect(
            n,
            discordance=n_different / n if n else 0.0,
            confidence=method.confidence,
            margin=method.margin,
            n_tests=method.n_tests,
        )
    return mean_detectable_effect(
        n,
        deviation=float(np.std(changes, ddof=1)) if n > 1 else 0.0,
        confidence=method.confidence,
        margin=method.margin,
        n_tests=method.n_tests,
    )
