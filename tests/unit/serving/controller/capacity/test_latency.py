from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.controller.capacity.latency import merge_counts, quantile

BOUNDS = (0.1, 0.5, 1.0)


def test_a_quantile_is_linear_within_its_bucket() -> None:
    assert quantile([0, 10, 0, 0], BOUNDS, 0.5) == pytest.approx(0.3)
    assert quantile([10, 0, 0, 0], BOUNDS, 0.5) == pytest.approx(0.05)


def test_beyond_the_last_bound_nothing_is_known() -> None:
    assert quantile([98, 0, 0, 2], BOUNDS, 0.99) is None
    assert quantile([98, 0, 0, 2], BOUNDS, 0.5) is not None


def test_nothing_observed_has_no_quantile() -> None:
    assert quantile([], BOUNDS, 0.5) is None
    assert quantile([0, 0, 0, 0], BOUNDS, 0.5) is None


def test_an_engine_without_counts_adds_nothing() -> None:
    assert merge_counts([], [1, 2]) == [1, 2]
    assert merge_counts([1, 2], []) == [1, 2]
    assert merge_counts([1, 2], [3, 4]) == [4, 6]


@given(
    st.lists(st.floats(0.001, 1.0), min_size=1, max_size=200),
    st.sampled_from([0.5, 0.9, 0.99]),
)
def test_a_quantile_lies_in_the_bucket_of_the_real_one(
    values: list[float], fraction: float
) -> None:
    counts = [0, 0, 0, 0]
    for value in values:
        counts[bisect_left(BOUNDS, value)] += 1
    ordered = sorted(values)
    real = ordered[max(0, -int(-len(ordered) * fraction // 1) - 1)]

    estimate = quantile(counts, BOUNDS, fraction)

    assert estimate is not None
    bucket = bisect_left(BOUNDS, real)
    assert ([0.0, *BOUNDS][bucket]) <= estimate <= BOUNDS[bucket] + 1e-12
