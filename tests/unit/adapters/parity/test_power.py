import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adapters.parity.discordance import worse_p
from adapters.parity.power import (
    drop_power,
    mean_detectable_effect,
    minimum_detectable_effect,
)
from adapters.parity.proportions import clopper_pearson_upper


def naive_power(n, *, p_worse, p_better, alpha, margin):
    """The definition: every table of n pairs, its probability, and whether it proves a drop."""
    tables = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    proving = [
        (b, c, n - b - c)
        for b, c in tables
        if worse_p(b, c) <= alpha and (b - c) / n > margin + 1e-12
    ]
    chances = [p_worse, p_better, 1 - p_worse - p_better]
    return float(sum(stats.multinomial.pmf(proving, n, chances))) if proving else 0.0


@pytest.mark.parametrize(
    ("n", "p_worse", "p_better", "alpha", "margin"),
    [
        (47, 0.2, 0.01, 0.025, 0.005),
        (47, 0.2, 0.0, 0.003, 0.1),
        (40, 0.1, 0.1, 0.025, 0.0),
        (30, 0.6, 0.4, 0.025, 0.3),
        (30, 1.0, 0.0, 0.025, 0.005),
        (5, 1.0, 0.0, 0.025, 0.005),
    ],
)
def test_power_is_the_sum_over_every_table(n, p_worse, p_better, alpha, margin):
    expected = naive_power(n, p_worse=p_worse, p_better=p_better, alpha=alpha, margin=margin)

    power = drop_power(n, p_worse=p_worse, p_better=p_better, alpha=alpha, margin=margin)

    assert power == pytest.approx(expected, abs=1e-9)


def test_power_is_how_often_simulated_suites_prove_the_drop():
    draws = np.random.default_rng(6).multinomial(1200, [0.05, 0.03, 0.92], size=4000)
    proven = [worse_p(int(b), int(c)) <= 0.025 and b - c > 6 for b, c, _ in draws]

    power = drop_power(1200, p_worse=0.05, p_better=0.03, alpha=0.025, margin=0.005)

    # Four standard errors of a share of 4,000.
    assert power == pytest.approx(np.mean(proven), abs=0.03)


def test_equality_is_called_a_drop_no_more_often_than_the_level():
    for n in (47, 200, 1200):
        for half in (0.01, 0.1):
            assert drop_power(n, p_worse=half, p_better=half, alpha=0.025) <= 0.025


def test_no_pair_that_differs_proves_nothing():
    assert drop_power(100, p_worse=0.0, p_better=0.0, alpha=0.025) == 0.0
    assert drop_power(0, p_worse=0.5, p_better=0.0, alpha=0.025) == 0.0


@pytest.mark.parametrize("p_worse", [-0.1, 0.9, math.nan])
def test_probabilities_that_cannot_be_are_refused(p_worse):
    with pytest.raises(ValueError, match="worse"):
        drop_power(10, p_worse=p_worse, p_better=0.2, alpha=0.025)


@pytest.mark.parametrize(("n", "discordance"), [(47, 0.02), (200, 0.2), (1200, 0.05)])
def test_the_detectable_effect_is_where_power_reaches_four_fifths(n, discordance):
    effect = minimum_detectable_effect(n, discordance=discordance, confidence=0.95)

    def power(drop):
        both = max(discordance, drop)
        return drop_power(n, p_worse=(both + drop) / 2, p_better=(both - drop) / 2, alpha=0.025)

    assert power(effect) >= 0.8
    assert power(effect - 1e-5) < 0.8


def test_the_detectable_effect_is_near_the_textbook_formula_for_many_cases():
    n, discordance = 4000, 0.1
    effect = minimum_detectable_effect(n, discordance=discordance, confidence=0.95)

    # Connor 1987, Biometrics 43, 207-211, solved for the sample size.
    za, zb = stats.norm.ppf(0.975), stats.norm.ppf(0.8)
    needed = (za * discordance**0.5 + zb * (discordance - effect**2) ** 0.5) ** 2 / effect**2

    assert needed == pytest.approx(n, rel=0.05)


shares = st.sampled_from([0.005, 0.02, 0.1, 0.3])


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 400), shares, st.integers(1, 20))
def test_more_cases_see_more_and_more_tests_and_noise_hide(n, discordance, n_tests):
    def effect(n, discordance, n_tests):
        return minimum_detectable_effect(
            n, discordance=discordance, confidence=0.95, n_tests=n_tests
        )

    one = effect(n, discordance, n_tests)

    assert one is not None
    assert effect(2 * n, discordance, n_tests) < one
    assert effect(n, discordance, n_tests + 10) >= one - 1e-6
    # More noise hides a drop, but for the steps of an exact test.
    assert effect(n, min(1.0, 3 * discordance), n_tests) >= one - 0.1 / math.sqrt(n)


def test_a_suite_that_cannot_prove_anything_has_no_detectable_effect():
    # Five pairs that all got worse have p = 1/32.
    assert minimum_detectable_effect(5, discordance=0.2, confidence=0.95) is None
    assert minimum_detectable_effect(6, discordance=0.2, confidence=0.95) is not None
    assert minimum_detectable_effect(0, discordance=0.0, confidence=0.95) is None


def test_without_a_discordant_pair_the_exact_bound_is_what_can_be_ruled_out():
    assert minimum_detectable_effect(
        1200, discordance=0.0, confidence=0.95
    ) == clopper_pearson_upper(0, 1200, confidence=0.95)


def test_a_drop_within_the_margin_cannot_be_detected_by_any_suite():
    effect = minimum_detectable_effect(20_000, discordance=0.01, confidence=0.95, margin=0.005)

    assert effect > 0.005


def test_the_detectable_effect_of_scores_is_found_four_times_in_five():
    effect = mean_detectable_effect(200, deviation=0.15, confidence=0.95)
    generator = np.random.default_rng(9)
    samples = generator.normal(-effect, 0.15, size=(4000, 200))

    ps = stats.ttest_1samp(samples, 0.0, axis=1, alternative="less").pvalue

    assert np.mean(ps <= 0.025) == pytest.approx(0.8, abs=0.03)


def test_scores_without_spread_have_no_detectable_effect():
    assert mean_detectable_effect(50, deviation=0.0, confidence=0.95) is None
    assert mean_detectable_effect(1, deviation=0.1, confidence=0.95) is None
    with pytest.raises(ValueError, match="deviation"):
        mean_detectable_effect(50, deviation=math.nan, confidence=0.95)
