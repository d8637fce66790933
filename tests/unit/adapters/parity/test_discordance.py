import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from adapters.parity.discordance import mcnemar_p, score_interval, worse_p

few = st.integers(0, 60)


@given(few, few)
def test_mcnemar_agrees_with_statsmodels(n_worse, n_better):
    table = [[10, n_worse], [n_better, 10]]

    assert mcnemar_p(n_worse, n_better) == pytest.approx(
        mcnemar(table, exact=True).pvalue, abs=1e-12
    )


@given(few, few)
def test_the_one_sided_test_agrees_with_scipy_and_with_the_definition(n_worse, n_better):
    n = n_worse + n_better
    ways = sum(math.comb(n, i) for i in range(n_worse, n + 1))

    assert worse_p(n_worse, n_better) == float(Fraction(ways, 2**n))
    if n:
        oracle = stats.binomtest(n_worse, n, 0.5, alternative="greater").pvalue
        assert worse_p(n_worse, n_better) == pytest.approx(oracle, abs=1e-12)


def test_thousands_of_discordant_pairs_lose_no_digit():
    assert worse_p(2100, 1900) == pytest.approx(stats.binom.sf(2099, 4000, 0.5), rel=1e-9)


def test_without_a_discordant_pair_nothing_speaks_against_equality():
    assert mcnemar_p(0, 0) == 1.0
    assert worse_p(0, 0) == 1.0


@given(few, few)
def test_more_worse_pairs_are_more_evidence_of_a_drop(n_worse, n_better):
    # Equal where both round to 1.
    assert worse_p(n_worse + 1, n_better) <= worse_p(n_worse, n_better)
    assert worse_p(n_worse + 1, 0) < worse_p(n_worse, 0)
    assert worse_p(n_worse, n_better) + worse_p(n_better, n_worse) >= 1.0


def test_negative_counts_are_refused():
    with pytest.raises(ValueError, match="-1 worse"):
        worse_p(-1, 2)
    with pytest.raises(ValueError, match="3 worse"):
        score_interval(3, 2, 4, confidence=0.95)


def score_by_maximum_likelihood(n_worse: int, n_better: int, n: int, change: float) -> float:
    """Tango's statistic by its definition: the variance at the most likely table under `change`."""
    same = n - n_worse - n_better

    def minus_log_likelihood(q: float) -> float:
        parts = ((n_worse, q), (n_better, q + change), (same, 1 - 2 * q - change))
        return -sum(count * math.log(max(p, 1e-300)) for count, p in parts)

    bounds = (max(0.0, -change), (1.0 - change) / 2.0)
    found = optimize.minimize_scalar(
        minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-13}
    )
    variance = n * (2 * found.x + change - change**2)
    return (n_better - n_worse - n * change) / math.sqrt(variance)


@pytest.mark.parametrize(("n_worse", "n_better", "n"), [(7, 1, 21), (3, 5, 47), (60, 40, 1200)])
def test_the_ends_of_the_score_interval_are_just_not_rejected(n_worse, n_better, n):
    low, high = score_interval(n_worse, n_better, n, confidence=0.95)

    for end, z in ((low, 1.959964), (high, -1.959964)):
        score = score_by_maximum_likelihood(n_worse, n_better, n, end)
        assert score == pytest.approx(z, abs=1e-5)


def test_without_a_discordant_pair_the_score_interval_is_the_known_one():
    z2 = stats.norm.ppf(0.975) ** 2

    assert score_interval(0, 0, 47, confidence=0.95) == pytest.approx(
        (-z2 / (47 + z2), z2 / (47 + z2))
    )
    assert score_interval(0, 0, 0, confidence=0.95) is None


pairs = st.tuples(few, few, st.integers(0, 400))


@settings(deadline=None)
@given(pairs)
def test_the_score_interval_holds_the_observed_change_and_turns_round_with_the_sides(counts):
    n_worse, n_better, same = counts
    n = n_worse + n_better + same
    interval = score_interval(n_worse, n_better, n, confidence=0.9)
    if interval is None:
        assert n == 0
        return

    wider = score_interval(n_worse, n_better, n, confidence=0.99)
    turned = score_interval(n_better, n_worse, n, confidence=0.9)

    assert -1.0 <= interval.low <= (n_better - n_worse) / n <= interval.high <= 1.0
    assert wider.low <= interval.low
    assert interval.high <= wider.high
    assert turned == (-interval.high, -interval.low)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99])
def test_an_exact_rejection_means_that_the_interval_excludes_zero(confidence):
    contradictions = [
        (n_worse, n_better)
        for n_worse in range(80)
        for n_better in range(n_worse)
        if worse_p(n_worse, n_better) <= (1 - confidence) / 2
        and score_interval(n_worse, n_better, 160, confidence=confidence).high >= 0.0
    ]

    assert contradictions == []


def test_counts_of_numpy_lose_no_digit_either():
    assert worse_p(np.int64(300), np.int64(200)) == worse_p(300, 200)
    assert mcnemar_p(np.int64(300), np.int64(200)) == mcnemar_p(300, 200)
