"""What the settings that were measured say of those that were not: a Gaussian process. Pure.

Two things are believed beforehand: a figure's logarithm follows roughly a straight line in the
logarithm of each axis, and leaves it smoothly. Both are priors, so wrong ones cost starts of
engines and never a wrong figure: only what was measured is ever recommended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from serving.tuning.space import Load, Setting

Floats = NDArray[np.float64]

_OCTAVES = 2.0
"""Over how many doublings of an axis a departure from the line carries. Arbitrary: a step's time
is a constant plus a part in proportion, which bends within about two doublings."""
_LARGE = 4096.0
_MEMORY_SCALE = 0.1


@dataclass(frozen=True, slots=True)
class Prior:
    """Standard deviations of one figure's logarithm, before anything was measured."""

    slope: float
    """Per doubling of an axis."""
    departure: float
    """From the straight line."""


GOAL_PRIOR = Prior(slope=0.5, departure=0.35)
"""A latency may double with an axis or be deaf to it."""
BOUND_PRIOR = Prior(slope=0.1, departure=0.1)
"""Throughput follows an axis much less."""


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


def features(setting: Setting, load: Load, *, assumed_budget: int) -> Floats:
    """Where a setting lies, in octaves.

    The first is of the largest piece of a prompt that shares a step with other streams, the second
    of the budget, which bounds several such pieces. What vLLM chooses by itself is `assumed_budget`
    here, and no limit on sequences is one that never binds.
    """
    budget = float(setting.max_num_batched_tokens or assumed_budget)
    longest = float(max(1, load.longest_prompt))
    piece = min(budget, longest, float(setting.long_prefill_token_threshold or longest))
    if not setting.enable_chunked_prefill:
        piece = longest
    n_seqs = float(min(setting.max_num_seqs or _LARGE, max(1, load.n_requests)))
    slots = float(min(setting.gpu_slots, max(1, load.n_adapters)))
    share = (setting.gpu_memory_share or 0.9) / _MEMORY_SCALE
    octaves = [math.log2(value) for value in (piece, min(budget, 2 * longest), n_seqs, slots)]
    return np.array([*octaves, share])


def guess(
    known: Sequence[Floats],
    values: Sequence[float],
    variances: Sequence[float],
    wanted: Sequence[Floats],
    *,
    prior: Prior,
) -> list[Guess]:
    """The process at `wanted`, given means of rounds at `known` and the variances of these means.

    `known[0]` is the start, whose value is 0 by definition; everything counts from there.
    """
    at, to = np.array(known), np.array(wanted)
    origin = at[0]
    inner = _kernel(at, at, origin, prior) + np.diag(np.asarray(variances) + 1e-9)
    across = _kernel(to, at, origin, prior)
    own = np.array([_kernel(row[None], row[None], origin, prior)[0, 0] for row in to])
    solved = np.linalg.solve(inner, across.T)
    means = solved.T @ np.asarray(values, dtype=np.float64)
    left = own - np.einsum("ij,ji->i", across, solved)
    return [
        Guess(float(mean), math.sqrt(max(0.0, float(variance))))
        for mean, variance in zip(means, left, strict=True)
    ]


def _kernel(a: Floats, b: Floats, origin: Floats, prior: Prior) -> Floats:
    line = prior.slope**2 * ((a - origin) @ (b - origin).T)
    distance = np.sqrt((((a[:, None] - b[None]) / _OCTAVES) ** 2).sum(axis=2))
    scaled = math.sqrt(5) * distance
    # Matern 5/2: smooth, but not as stiff as a Gaussian.
    near = (1 + scaled + scaled**2 / 3) * np.exp(-scaled)
    return np.asarray(line + prior.departure**2 * near)
