import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.parity.statistics import clopper_pearson_upper, paired_bootstrap


@pytest.mark.parametrize(
    ("n_events", "n", "confidence", "bound"),
    [
        # By definition, no event: 1 - (1 - confidence)**(1/n).
        (0, 60, 0.95, 1 - 0.05 ** (1 / 60)),
        (0, 1, 0.95, 0.95),
        # By definition, all but one: the bound p solves p**n = confidence.
        (9, 10, 0.95, 0.95**0.1),
        # The two-sided 95 % interval of 10 in 100 ends at 0.17622 in every table.
        (10, 100, 0.975, 0.17622),
    ],
)
def test_the_upper_bound_of_a_proportion_is_exact(n_events, n, confidence, bound):
    assert clopper_pearson_upper(n_events, n, confidence=confidence) == pytest.approx(
        bound, abs=1e-5
    )


def test_no_trial_gives_no_bound_and_only_events_give_one():
    assert clopper_pearson_upper(0, 0, confidence=0.95) is None
    assert clopper_pearson_upper(7, 7, confidence=0.95) == 1.0


@settings(deadline=None)
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
def test_the_bound_grows_with_events_and_with_confidence(pair):
    k, n = pair

    bound = clopper_pearson_upper(k, n, confidence=0.95)
    more_events = clopper_pearson_upper(k + 1, n, confidence=0.95)
    surer = clopper_pearson_upper(k, n, confidence=0.99)

    assert bound is not None
    assert more_events is not None
    assert surer is not None
    assert k / n < bound < more_events <= 1.0
    assert bound < surer


@pytest.mark.parametrize(("k", "n", "confidence"), [(2, 1, 0.95), (-1, 3, 0.95), (1, 3, 1.0)])
def test_counts_that_cannot_be_are_refused(k, n, confidence):
    with pytest.raises(ValueError, match="at confidence"):
        clopper_pearson_upper(k, n, confidence=confidence)


def test_the_upper_bound_covers_as_often_as_it_says():
    generator = np.random.default_rng(3)
    draws = generator.binomial(40, 0.1, size=2000)

    bounds = [clopper_pearson_upper(int(k), 40, confidence=0.9) for k in draws]

    assert np.mean([bound >= 0.1 for bound in bounds if bound is not None]) >= 0.9


def test_the_bootstrap_is_the_same_for_the_same_seed():
    values = [0.0, 1.0, 0.0, -1.0, 1.0, 0.0]

    first = paired_bootstrap(values, seed=5, confidence=0.95)

    assert first == paired_bootstrap(values, seed=5, confidence=0.95)
    assert first is not None
    assert first.low <= np.mean(values) <= first.high


def test_more_confidence_and_fewer_cases_widen_the_bootstrap():
    generator = np.random.default_rng(1)
    many = generator.normal(size=400)

    narrow = paired_bootstrap(many, seed=1, confidence=0.8)
    sure = paired_bootstrap(many, seed=1, confidence=0.99)
    few = paired_bootstrap(many[:40], seed=1, confidence=0.8)

    assert narrow is not None
    assert sure is not None
    assert few is not None
    assert sure.high - sure.low > narrow.high - narrow.low
    assert few.high - few.low > narrow.high - narrow.low


def test_the_bootstrap_agrees_with_the_normal_interval_on_many_cases():
    values = np.random.default_rng(2).normal(0.3, 1.0, size=2000)

    interval = paired_bootstrap(values, seed=1, confidence=0.95, n_resamples=4000)

    assert interval is not None
    half = 1.96 * values.std(ddof=1) / math.sqrt(values.size)
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)


@pytest.mark.parametrize("values", [[], [0.5], [0.0, 0.0, 0.0]])
def test_no_variance_gives_no_interval(values):
    assert paired_bootstrap(values, seed=1, confidence=0.95) is None


def test_a_difference_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap([0.0, math.nan], seed=1, confidence=0.95)
