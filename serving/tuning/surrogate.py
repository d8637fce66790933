"""What the settings that were measured say of those that were not: a Gaussian process. Pure.

It starts from how a step's time comes about: a constant part, and a part per token. The constant,
counted in tokens, is read from the start's own rounds (`overhead_tokens`); then a gap follows the
largest piece of a prompt that shares a step with other streams, and capacity the tokens over which
the constant part is spread. What a real engine does besides is learned from its rounds. Wrong
priors cost starts of engines and never a wrong figure: only what was measured is recommended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from serving.tuning.goals import CAPACITY, THROUGHPUT
from serving.tuning.space import Load, Setting

Floats = NDArray[np.float64]

_OCTAVES = 2.0
"""Over how many doublings of an axis a departure from the prior carries. Arbitrary: a step's time
bends within about two doublings."""
_LARGE = 4096.0
_MEMORY_SCALE = 0.1
_LEAST_OVERHEAD, _MOST_OVERHEAD = 8.0, 4096.0


@dataclass(frozen=True, slots=True)
class Prior:
    """Standard deviations of one figure's logarithm around its prior mean."""

    token_slope: float
    """Per doubling of piece or budget."""
    other_slope: float
    """Per doubling of sequences or slots, or a tenth of memory."""
    departure: float
    """From the straight line."""


def prior_of(metric: str) -> Prior:
    """Arbitrary in their size, chosen so that simulated searches over engines of other prices than
    the prior's find the best (tests/property/test_search_properties.py)."""
    if metric.startswith("gap"):
        return Prior(0.25, 0.1, 0.2)
    if metric == CAPACITY:
        return Prior(0.05, 0.05, 0.05)
    if metric == THROUGHPUT:
        return Prior(0.03, 0.03, 0.03)
    return Prior(0.5, 0.15, 0.35)


@dataclass(frozen=True, slots=True)
class Place:
    """A setting as the process sees it."""

    piece: float
    """Most tokens of one prompt in a step that others share."""
    budget: float
    """Most tokens of a step."""
    n_seqs: float
    n_slots: float
    memory: float

    def features(self, overhead: float) -> Floats:
        """Octaves, so that equal distances mean equal ratios."""
        return np.array(
            [
                math.log2(overhead + self.piece),
                math.log2(overhead + self.budget),
                math.log2(self.n_seqs),
                math.log2(self.n_slots),
                self.memory / _MEMORY_SCALE,
            ]
        )

    def prior_loss(self, metric: str, overhead: float) -> float:
        """Prior mean of the figure's `loss`, but for a constant."""
        if metric.startswith("gap"):
            return math.log(overhead + self.piece)
        if metric == CAPACITY:
            return math.log1p(overhead / self.budget)
        return 0.0


@dataclass(frozen=True, slots=True)
class Known:
    """A setting that was measured: its place, the mean and the variance of that mean."""

    place: Place
    mean: float
    variance: float


@dataclass(frozen=True, slots=True)
class Guess:
    """A normal distribution of what is not measured yet."""

    mean: float
    deviation: float

    def chance_below(self, limit: float) -> float:
        """Probability of a value of at most `limit`."""
        if self.deviation <= 0:
            return float(self.mean <= limit)
        return NormalDist(self.mean, self.deviation).cdf(limit)

    def expected_improvement(self, best: float) -> float:
        """E[max(0, best - value)], the expected gain over the best one so far."""
        if self.deviation <= 0:
            return max(0.0, best - self.mean)
        z = (best - self.mean) / self.deviation
        normal = NormalDist()
        return self.deviation * (z * normal.cdf(z) + normal.pdf(z))


def place_of(setting: Setting, load: Load, *, assumed_budget: int) -> Place:
    """What vLLM chooses by itself is `assumed_budget` here; no limit is one that never binds."""
    budget = float(setting.max_num_batched_tokens or assumed_budget)
    longest = float(max(1, load.longest_prompt))
    piece = min(budget, longest, float(setting.long_prefill_token_threshold or longest))
    return Place(
        piece=piece if setting.enable_chunked_prefill else longest,
        budget=budget,
        n_seqs=float(min(setting.max_num_seqs or _LARGE, max(1, load.n_requests))),
        n_slots=float(min(setting.gpu_slots, max(1, load.n_adapters))),
        memory=setting.gpu_memory_share or 0.9,
    )


def overhead_tokens(gap_p50: float, gap_p99: float, piece: float) -> float:
    """A step's constant part in tokens, from the start's usual and its long gaps.

    Half of the gaps are of steps without a prompt, the longest of steps with `piece` tokens of one.
    Without long gaps nothing is known of it, and it is taken as large: no axis then promises much.
    """
    if not gap_p50 > 0 or not gap_p99 > 1.5 * gap_p50:
        return _MOST_OVERHEAD
    return min(_MOST_OVERHEAD, max(_LEAST_OVERHEAD, piece * gap_p50 / (gap_p99 - gap_p50)))


def guess(
    known: Sequence[Known], wanted: Sequence[Place], *, metric: str, overhead: float
) -> list[Guess]:
    """The figure's `loss` at `wanted`; `known[0]` is the start, from which everything counts."""
    prior, origin = prior_of(metric), known[0].place
    at = np.array([one.place.features(overhead) for one in known])
    to = np.array([place.features(overhead) for place in wanted])
    base = origin.prior_loss(metric, overhead)
    means = np.array([one.place.prior_loss(metric, overhead) - base for one in known])
    wanted_means = np.array([place.prior_loss(metric, overhead) - base for place in wanted])
    noise = np.diag([one.variance + 1e-9 for one in known])
    inner = _kernel(at, at, at[0], prior) + noise
    across = _kernel(to, at, at[0], prior)
    own = np.diag(_kernel(to, to, at[0], prior))
    solved = np.linalg.solve(inner, across.T)
    found = wanted_means + solved.T @ (np.array([one.mean for one in known]) - means)
    left = own - np.einsum("ij,ji->i", across, solved)
    return [
        Guess(float(mean), math.sqrt(max(0.0, float(variance))))
        for mean, variance in zip(found, left, strict=True)
    ]


def _kernel(a: Floats, b: Floats, origin: Floats, prior: Prior) -> Floats:
    slopes = np.array([prior.token_slope] * 2 + [prior.other_slope] * 3) ** 2
    line = ((a - origin) * slopes) @ (b - origin).T
    distance = np.sqrt((((a[:, None] - b[None]) / _OCTAVES) ** 2).sum(axis=2))
    scaled = math.sqrt(5) * distance
    # Matern 5/2: smooth, but not as stiff as a Gaussian.
    near = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return np.asarray(line + prior.departure**2 * near)
