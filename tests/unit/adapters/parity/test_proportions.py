import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from adapters.parity.proportions import (
    binomial_at_least,
    binomial_at_most,
    clopper_pearson_interval,
    clopper_pearson_lower,
    clopper_pearson_upper,
)

sizes = st.sampled_from([1, 2, 7, 47, 200, 1200, 4000])
counts = sizes.flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
confidences = st.sampled_from([0.8, 0.9, 0.95, 0.99])


@settings(deadline=None)
@given(counts, st.floats(0.0, 1.0))
def test_binomial_tails_agree_with_scipy(pair, p):
    k, n = pair

    assert binomial_at_most(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), abs=1e-9)
    assert binomial_at_least(k, n, p) == pytest.approx(stats.binom.sf(k - 1, n, p), abs=1e-9)


@given(st.integers(0, 30).flatmap(lambda n: st.tuples(st.integers(-1, n + 1), st.just(n))))
def test_binomial_tails_are_the_naive_sums(pair):
    k, n = pair
    masses = [math.comb(n, i) * 0.3**i * 0.7 ** (n - i) for i in range(n + 1)]

    assert binomial_at_most(k, n, 0.3) == pytest.approx(math.fsum(masses[: max(0, k + 1)]))
    assert binomial_at_least(k, n, 0.3) == pytest.approx(math.fsum(masses[max(0, k) :]))


def test_a_tail_far_out_keeps_its_digits():
    # P(X >= 400) for 4,000 fair coins of 1 in 100; the sum is under 1e-200.
    assert binomial_at_least(400, 4000, 0.01) == pytest.approx(
        stats.binom.sf(399, 4000, 0.01), rel=1e-9
    )


@settings(deadline=None)
@given(counts, confidences)
def test_the_two_sided_interval_agrees_with_statsmodels(pair, confidence):
    k, n = pair
    low, high = proportion_confint(k, n, alpha=1 - confidence, method="beta")

    interval = clopper_pearson_interval(k, n, confidence=confidence)

    # statsmodels says NaN where the bound is 0 or 1 by definition.
    assert interval == pytest.approx((0.0 if k == 0 else low, 1.0 if k == n else high), abs=1e-9)


@settings(deadline=None)
@given(counts, confidences)
def test_one_sided_bounds_agree_with_scipy(pair, confidence):
    k, n = pair
    upper = stats.binomtest(k, n).proportion_ci(confidence, method="exact")
    above = stats.binomtest(k, n, alternative="less").proportion_ci(confidence, method="exact").high
    under = stats.binomtest(k, n, alternative="greater").proportion_ci(confidence, "exact").low

    assert clopper_pearson_upper(k, n, confidence=confidence) == pytest.approx(above, abs=1e-9)
    assert clopper_pearson_lower(k, n, confidence=confidence) == pytest.approx(under, abs=1e-9)
    assert above <= upper.high


@pytest.mark.parametrize(
    ("n_events", "n", "confidence", "bound"),
    [
        # By definition, no event: 1 - (1 - confidence)**(1/n).
        (0, 60, 0.95, 1 - 0.05 ** (1 / 60)),
        (0, 1, 0.95, 0.95),
        # By definition, all but one: the bound p solves p**n = confidence.
        (9, 10, 0.95, 0.95**0.1),
        (7, 7, 0.95, 1.0),
    ],
)
def test_the_upper_bound_is_the_one_of_the_definition(n_events, n, confidence, bound):
    assert clopper_pearson_upper(n_events, n, confidence=confidence) == pytest.approx(
        bound, abs=1e-12
    )


def test_no_trial_gives_no_bound():
    assert clopper_pearson_upper(0, 0, confidence=0.95) is None
    assert clopper_pearson_lower(0, 0, confidence=0.95) is None
    assert clopper_pearson_interval(0, 0, confidence=0.95) is None


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_bounds_grow_with_events_and_with_confidence(pair):
    k, n = pair

    bound = clopper_pearson_upper(k, n, confidence=0.95)
    more_events = clopper_pearson_upper(k + 1, n, confidence=0.95)
    surer = clopper_pearson_upper(k, n, confidence=0.99)
    below = clopper_pearson_lower(k, n, confidence=0.95)

    assert below <= k / n < bound < more_events <= 1.0
    assert bound < surer
    assert below == pytest.approx(1.0 - clopper_pearson_upper(n - k, n, confidence=0.95))


@pytest.mark.parametrize(("k", "n", "confidence"), [(2, 1, 0.95), (-1, 3, 0.95), (1, 3, 1.0)])
def test_counts_and_levels_that_cannot_be_are_refused(k, n, confidence):
    with pytest.raises(ValueError, match=r"events of|confidence"):
        clopper_pearson_interval(k, n, confidence=confidence)


def test_the_interval_never_covers_less_often_than_it_says():
    draws = np.random.default_rng(3).binomial(40, 0.1, size=2000)

    intervals = [clopper_pearson_interval(int(k), 40, confidence=0.9) for k in draws]

    assert np.mean([low <= 0.1 <= high for low, high in intervals]) >= 0.9
