"""Quantiles of latency from histogram counts, as engines report them. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def merge_counts(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Two histograms over the same bounds as one; an empty one adds nothing."""
    if not left or not right:
        return list(left or right)
    return [a + b for a, b in zip(left, right, strict=True)]


def quantile(counts: Sequence[int], bounds: Sequence[float], fraction: float) -> float | None:
    """The value under which `fraction` of the observations lie, linear within its bucket.

    `counts` has one count per bound and one for what lies beyond the last. None: nothing was
    observed, or the quantile lies beyond the last bound, where its value is unknown.
    """
    total = sum(counts)
    if total == 0:
        return None
    wanted, below, lower = fraction * total, 0, 0.0
    for count, bound in zip(counts, bounds, strict=False):
        if count and below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        below, lower = below + count, bound
    return None
