"""Growth is a fitted exponent with its interval; percentiles and goals of made-up runs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.control_plane.fit import fit_power, local_exponent
from bench.control_plane.measured import SizeResult, figures_of, goals_of, quantile
from bench.control_plane.registry_rows import adapter_names

SIZES = (100, 1000, 3000, 10_000)


@given(st.floats(-1, 3), st.floats(0.01, 100))
def test_a_power_law_is_found_again(exponent: float, scale: float) -> None:
    fit = fit_power([(n, scale * n**exponent) for n in SIZES])

    assert fit is not None
    assert fit.exponent == pytest.approx(exponent, abs=1e-6)
    assert fit.low <= fit.exponent <= fit.high
    assert local_exponent((100, scale * 100**exponent), (10_000, scale * 10_000**exponent)) == (
        pytest.approx(exponent, abs=1e-6)
    )


def test_what_grows_with_the_square_is_more_than_linear_and_a_constant_is_not() -> None:
    square = fit_power([(n, n**2 * wobble) for n in SIZES for wobble in (0.9, 1.0, 1.1)])
    constant = fit_power([(n, wobble) for n in SIZES for wobble in (0.9, 1.0, 1.1)])

    assert square is not None
    assert not square.is_at_most_linear
    assert constant is not None
    assert constant.is_at_most_linear


@pytest.mark.parametrize("points", [[], [(1, 1.0), (2, 2.0)], [(9, 1.0), (9, 2.0), (9, 3.0)]])
def test_without_enough_to_fit_there_is_no_exponent(points: list[tuple[float, float]]) -> None:
    assert fit_power(points) is None


def test_no_exponent_between_costs_that_are_not_positive() -> None:
    assert math.isnan(local_exponent((1, 0.0), (2, 1.0)))


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_one_of_the_values_and_leaves_its_share_below(
    values: list[float], q: float
) -> None:
    found = quantile(values, q)

    assert found in values
    assert sum(value <= found for value in values) >= q * len(values) - 1e-9


def test_figures_name_the_slowest_promotion_and_goals_say_whether_it_is_fast_enough() -> None:
    results = [SizeResult(n, promotions=[[[0.1, 0.2, 0.3]], [[0.1, 0.2, last]]]) for n, last in
               ((100, 0.4), (10_000, 1.2))]  # fmt: skip

    figures = {(figure.group, figure.name): figure for figure in figures_of(results)}
    (goal, *_) = goals_of(results, n_agents=100)

    assert figures["10,000 adapters", "promotion p99"].values == pytest.approx((300, 1200))
    assert figures["10,000 adapters", "promotion p99 of all runs"].median == pytest.approx(1200)
    assert not goal.is_met
    assert "10,000 adapters" in goal.name


def test_names_are_all_different() -> None:
    assert len(set(adapter_names(1234))) == 1234
