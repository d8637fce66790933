import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from adapters.parity.statistics import check_confidence, holm_adjusted, two_sided_z

p_values = st.lists(st.floats(0, 1), max_size=12)


@pytest.mark.parametrize(
    "ps", [[0.2], [0.01, 0.02, 0.03, 0.04], [0.5, 0.0, 1.0, 0.001, 0.001, 0.3], [1.0, 1.0]]
)
def test_holm_agrees_with_statsmodels(ps):
    oracle = multipletests(ps, method="holm")[1]

    assert holm_adjusted(ps) == pytest.approx(list(oracle), abs=1e-12)


@given(p_values)
def test_holm_is_between_no_correction_and_bonferronis(ps):
    adjusted = holm_adjusted(ps)

    assert all(p <= q <= min(1.0, len(ps) * p) for p, q in zip(ps, adjusted, strict=True))


@given(p_values, st.randoms(use_true_random=False))
def test_holm_does_not_depend_on_the_order_of_the_tests(ps, random):
    order = list(range(len(ps)))
    random.shuffle(order)

    shuffled = holm_adjusted([ps[i] for i in order])

    assert shuffled == tuple(holm_adjusted(ps)[i] for i in order)


def test_holm_keeps_false_rejections_of_any_of_many_tests_at_the_level():
    uniform = np.random.default_rng(4).random((4000, 10))

    rejected = [min(holm_adjusted(list(row))) <= 0.05 for row in uniform]

    # By definition 1 - (1 - 0.05 / 10)**10 = 0.0489, with a standard error of 0.0034.
    assert 0.035 < np.mean(rejected) < 0.06


@pytest.mark.parametrize("ps", [[-0.1], [0.5, 1.1], [float("nan")]])
def test_what_is_no_p_value_is_refused(ps):
    with pytest.raises(ValueError, match="p-value"):
        holm_adjusted(ps)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.999])
def test_the_normal_quantile_agrees_with_scipy(confidence):
    assert two_sided_z(confidence) == pytest.approx(stats.norm.ppf(0.5 + confidence / 2), abs=1e-9)


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0, 95.0, float("nan")])
def test_what_is_no_confidence_is_refused(confidence):
    with pytest.raises(ValueError, match="confidence"):
        check_confidence(confidence)
