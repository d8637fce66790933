import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adapters.parity.discordance import worse_p
from adapters.parity.resampling import paired_bootstrap, sign_flip_p

DENSE = np.random.default_rng(2).normal(-0.02, 0.15, size=400)
"""Differences of scores: as many distinct values as cases."""
SPARSE = np.repeat([-1.0, 0.0, 1.0], [30, 360, 10])
"""Differences of passes: three distinct values."""


def naive_bootstrap(values, *, confidence, n_resamples):
    """The definition, one resample at a time."""
    generator = np.random.default_rng(11)
    ratios = []
    for _ in range(n_resamples):
        drawn = generator.choice(values, size=values.size)
        ratios.append(abs(drawn.mean() - values.mean()) / drawn.std())
    half = np.quantile(ratios, confidence) * values.std()
    return values.mean() - half, values.mean() + half


@pytest.mark.parametrize("values", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_the_bootstrap_is_its_naive_definition_but_for_chance(values):
    low, high = naive_bootstrap(values, confidence=0.9, n_resamples=3000)

    interval = paired_bootstrap(values, seed=1, confidence=0.9)

    assert interval.low == pytest.approx(low, abs=0.1 * (high - low) / 2)
    assert interval.high == pytest.approx(high, abs=0.1 * (high - low) / 2)


@pytest.mark.parametrize("values", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_the_bootstrap_is_near_scipys_on_many_cases(values):
    oracle = stats.bootstrap(
        (values,), np.mean, confidence_level=0.95, n_resamples=4000, method="BCa",
        rng=np.random.default_rng(5),
    ).confidence_interval  # fmt: skip

    interval = paired_bootstrap(values, seed=1, confidence=0.95)

    half = (oracle.high - oracle.low) / 2
    assert interval.low == pytest.approx(oracle.low, abs=0.2 * half)
    assert interval.high == pytest.approx(oracle.high, abs=0.2 * half)


def test_drawing_counts_and_drawing_cases_are_the_same_thing():
    # A hair between equal values makes them distinct, so cases are drawn by index.
    parted = SPARSE + np.linspace(0, 1e-9, SPARSE.size)

    by_counts = paired_bootstrap(SPARSE, seed=1, confidence=0.95, n_resamples=40_000)
    by_index = paired_bootstrap(parted, seed=1, confidence=0.95, n_resamples=40_000)

    half = (by_counts.high - by_counts.low) / 2
    assert by_counts == pytest.approx(by_index, abs=0.03 * half)


differences = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.0, 0.25, 1.0]), min_size=2, max_size=40)


@settings(deadline=None)
@given(differences, st.randoms(use_true_random=False))
def test_neither_order_nor_another_run_changes_a_result(values, random):
    shuffled = random.sample(values, len(values))

    first = paired_bootstrap(values, seed=5, confidence=0.9, n_resamples=300)

    assert first == paired_bootstrap(shuffled, seed=5, confidence=0.9, n_resamples=300)
    assert sign_flip_p(values, seed=5, n_resamples=300) == sign_flip_p(
        shuffled, seed=5, n_resamples=300
    )


@settings(deadline=None)
@given(differences)
def test_the_bootstrap_surrounds_the_mean_and_widens_with_confidence(values):
    interval = paired_bootstrap(values, seed=5, confidence=0.8, n_resamples=300)
    wider = paired_bootstrap(values, seed=5, confidence=0.9, n_resamples=300)
    if interval is None:
        assert wider is None
        return

    assert interval.low <= np.mean(values) <= interval.high
    assert interval.low + interval.high == pytest.approx(2 * np.mean(values))
    assert wider is None or wider.low <= interval.low <= interval.high <= wider.high


@pytest.mark.parametrize("values", [DENSE, SPARSE], ids=["dense", "sparse"])
def test_four_times_the_cases_halve_the_bootstrap(values):
    few = paired_bootstrap(values, seed=1, confidence=0.95)
    many = paired_bootstrap(np.tile(values, 4), seed=1, confidence=0.95)

    assert (many.high - many.low) / (few.high - few.low) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize(
    "values",
    [[], [0.5], [0.0, 0.0, 0.0], [-0.3, -0.3], [-1.0] + [0.0] * 199, [-1.0, 1.0] + [0.0] * 198],
)
def test_where_resamples_show_no_variance_there_is_no_interval(values):
    assert paired_bootstrap(values, seed=1, confidence=0.95) is None


def test_a_difference_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        paired_bootstrap([0.0, math.nan], seed=1, confidence=0.95)
    with pytest.raises(ValueError, match="finite"):
        sign_flip_p([0.0, math.inf], seed=1)
    with pytest.raises(ValueError, match="confidence"):
        paired_bootstrap([0.0, 1.0], seed=1, confidence=1.0)


@pytest.mark.parametrize(("n_worse", "n_better"), [(3, 0), (9, 2), (20, 20), (2, 9), (40, 22)])
def test_flipping_signs_of_passes_is_the_exact_mcnemar_test(n_worse, n_better):
    values = [-1.0] * n_worse + [1.0] * n_better + [0.0] * 50

    p = sign_flip_p(values, seed=3, n_resamples=20_000)

    assert p == pytest.approx(worse_p(n_worse, n_better), abs=0.01)


def test_flipping_signs_agrees_with_scipys_permutation_test():
    values = np.random.default_rng(8).normal(-0.4, 1.0, size=12)
    oracle = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", alternative="less", n_resamples=5000,
        rng=np.random.default_rng(1),
    )  # fmt: skip

    # 2**12 sign patterns are fewer than the resamples asked for: scipy's value is exact.
    assert sign_flip_p(values, seed=1, n_resamples=20_000) == pytest.approx(oracle.pvalue, abs=0.01)


def test_no_difference_is_no_evidence_and_no_evidence_is_certain():
    assert sign_flip_p([], seed=1) == 1.0
    assert sign_flip_p([0.0, 0.0], seed=1) == 1.0
    assert sign_flip_p([-0.5] * 60, seed=1, n_resamples=999) == 1 / 1000
