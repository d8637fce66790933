"""What is guessed of settings that were not measured."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest

from serving.tuning.space import Load, Setting
from serving.tuning.surrogate import Guess, Known, Place, guess, overhead_tokens, place_of

LOAD = Load(longest_prompt=1500, n_adapters=1, n_requests=50)
OVERHEAD = 50.0


def place(budget: int | None, threshold: int | None = None) -> Place:
    setting = Setting(max_num_batched_tokens=budget, long_prefill_token_threshold=threshold)
    return place_of(setting, LOAD, assumed_budget=2048)


START = Known(place(None), 0.0, 0.0)


def test_what_was_measured_exactly_is_guessed_so() -> None:
    measured = Known(place(256, 64), -1.7, 0.0)

    (found,) = guess([START, measured], [place(256, 64)], metric="gap_p99", overhead=OVERHEAD)

    assert found.mean == pytest.approx(-1.7, abs=1e-3)
    assert found.deviation < 0.01


def test_smaller_pieces_promise_shorter_gaps_and_cost_capacity() -> None:
    places = [place(1024, 256), place(256, 64), place(64, 16)]

    gaps = guess([START], places, metric="gap_p99", overhead=OVERHEAD)
    losses = guess([START], places, metric="capacity", overhead=OVERHEAD)

    assert gaps[0].mean > gaps[1].mean > gaps[2].mean
    assert losses[0].mean < losses[1].mean < losses[2].mean


def test_further_away_less_is_known() -> None:
    measured = Known(place(256, 64), -1.7, 0.0)

    near, far = guess(
        [START, measured], [place(256, 128), place(64, 16)], metric="gap_p99", overhead=OVERHEAD
    )

    assert near.deviation < far.deviation


def test_the_constant_part_of_a_step_is_read_from_usual_and_long_gaps() -> None:
    # 30 ms a step and 1 ms a token: 1,500 tokens take 1,530 ms, and the 30 ms are 30 tokens.
    assert overhead_tokens(30.0, 1530.0, 1500.0) == pytest.approx(30.0)


@pytest.mark.parametrize("p99", [30.0, math.nan])
def test_without_long_gaps_no_axis_promises_much(p99: float) -> None:
    overhead = overhead_tokens(30.0, p99, 1500.0)

    (found,) = guess([START], [place(64, 16)], metric="gap_p99", overhead=overhead)

    assert found.mean > math.log(0.7)


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 0.1, 0.0), (-0.3, 0.2, -0.1)])
def test_the_expected_gain_is_that_of_a_simulation(
    mean: float, deviation: float, best: float
) -> None:
    steps = [(k + 0.5) / 4_000 for k in range(4_000)]
    values = [NormalDist(mean, deviation).inv_cdf(p) for p in steps]
    expected = sum(max(0.0, best - value) for value in values) / len(values)

    found = Guess(mean, deviation).expected_improvement(best)

    assert found == pytest.approx(expected, rel=5e-3)


def test_a_guess_without_doubt_is_below_a_limit_or_not() -> None:
    assert Guess(-0.1, 0.0).chance_below(0.0) == 1.0
    assert Guess(0.1, 0.0).chance_below(0.0) == 0.0
