"""Student's t against scipy, and intervals against how often they hold."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from serving.tuning.intervals import (
    Spread,
    mean_interval,
    pooled_spread,
    student_cdf,
    student_quantile,
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 10, 31])
@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_quantiles_are_those_of_scipy(degrees: int, confidence: float) -> None:
    expected = stats.t.ppf(0.5 + confidence / 2, degrees)

    assert student_quantile(confidence, degrees) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("t", [-3.0, -0.2, 0.0, 0.7, 12.0])
@pytest.mark.parametrize("degrees", [1, 2, 5, 8])
def test_the_distribution_is_that_of_scipy(t: float, degrees: int) -> None:
    assert student_cdf(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), rel=1e-9)


def test_without_degrees_of_freedom_there_is_no_distribution() -> None:
    with pytest.raises(ValueError, match="degree"):
        student_cdf(1.0, 0)


def test_a_pool_is_the_weighted_mean_of_the_variances() -> None:
    pooled = pooled_spread([[1.0, 3.0], [5.0], [2.0, 2.0, 5.0]])

    assert pooled == Spread(math.sqrt((2.0 + 6.0) / 3), 3)


def test_where_nothing_is_known_of_the_spread_there_is_no_interval() -> None:
    assert pooled_spread([[1.0], [2.0]]) is None
    assert mean_interval([1.0], spread=None, confidence=0.95) is None
    assert mean_interval([], spread=Spread(1.0, 5), confidence=0.95) is None


def test_a_restless_setting_does_not_borrow_the_others_calm() -> None:
    calm = mean_interval([-0.01, 0.01], spread=Spread(0.1, 20), confidence=0.95)
    restless = mean_interval([-3.0, 3.0], spread=Spread(0.1, 20), confidence=0.95)

    assert calm is not None
    assert restless is not None
    assert restless.high - restless.low > 10 * (calm.high - calm.low)


def test_a_pooled_interval_holds_as_often_as_it_says() -> None:
    draw = random.Random(7)
    n_held, n_trials = 0, 600

    for _ in range(n_trials):
        groups = [[draw.gauss(mean, 0.1) for _ in range(3)] for mean in (0.0, 1.0, 2.0)]
        found = mean_interval(groups[0], spread=pooled_spread(groups), confidence=0.95)
        assert found is not None
        n_held += found.low <= 0.0 <= found.high

    # Above, because a group that scatters more than the pool counts with its own spread.
    assert 0.93 <= n_held / n_trials <= 1.0
