"""What a search promises, over simulated ones: it finds the best, keeps its budget, goes on."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.tuning.conclusion import conclude
from serving.tuning.race import Evidence, Round
from serving.tuning.search import Costs, Measure, Plan, State, exhaustive_step, next_step
from serving.tuning.space import Setting
from tests.builders.searches import ROUND_SECONDS, START_SECONDS, NoisyEngines, exact, plan, race
from tests.fakes.tuned_engine import Prices

CPU = Prices()
CARD = Prices(step=0.02, prompt_token=0.0001, answer_token=0.0002, budget=8192)
"""Where a step's constant part weighs as much as 200 tokens, as on an accelerator."""


def truth(search: Plan, prices: Prices) -> Evidence:
    """All rounds of all settings, without noise."""
    rounds = [
        Round(setting, number, exact(setting, number, prices))
        for setting in (search.start, *search.candidates)
        for number in range(search.rules.max_rounds)
    ]
    return Evidence(search.start, search.goals, rounds)


def distance(search: Plan, chosen: Setting, prices: Prices) -> float:
    """Share by which the chosen setting's gap is above the best's."""
    known = truth(search, prices)
    best = known.best()
    assert best is not None
    return math.exp(known.goal_estimate(chosen) - known.goal_estimate(best)) - 1


def test_the_best_of_the_grid_is_found_within_five_percent_in_nineteen_of_twenty_searches() -> None:
    search = plan()

    distances = []
    for seed in range(20):
        state, _ = race(search, NoisyEngines(seed, latency_noise=0.08, rate_noise=0.015))
        distances.append(distance(search, conclude(search, state).chosen, CPU))

    assert sum(share <= 0.05 for share in distances) >= 19


def test_a_search_takes_less_than_a_third_of_the_time_of_the_grid_that_it_replaces() -> None:
    search = replace(plan(), budget_seconds=math.inf)
    grid = (len(search.candidates) + 2) * (START_SECONDS + 3 * ROUND_SECONDS)

    spent = [race(search, NoisyEngines(seed))[0].spent_seconds for seed in range(8)]

    assert statistics.median(spent) <= grid / 3


def test_a_machine_that_the_prior_does_not_know_is_searched_as_well() -> None:
    search = replace(plan(limit=0.3), budget_seconds=1500.0, assumed_budget=8192)

    distances = []
    for seed in range(6):
        state, _ = race(search, NoisyEngines(seed, prices=CARD))
        distances.append(distance(search, conclude(search, state).chosen, CARD))

    assert statistics.median(distances) <= 0.05


def test_where_no_setting_differs_the_start_is_hardly_ever_beaten() -> None:
    search = plan()
    flat = Prices(step=0.05, prompt_token=0.0, answer_token=0.0)
    assert truth(search, flat).best() is not None

    beaten = []
    for seed in range(20):
        state, _ = race(search, NoisyEngines(seed, latency_noise=0.1, prices=flat))
        beaten.append(conclude(search, state).is_better)

    # One in twenty is what the intervals allow; more than three would come about once in sixty.
    assert sum(beaten) <= 3


@given(seed=st.integers(0, 10**6), budget=st.floats(0, 2000), limit=st.floats(0.02, 0.5))
@settings(max_examples=12, deadline=None)
def test_after_the_start_no_search_exceeds_its_budget(
    seed: int, budget: float, limit: float
) -> None:
    search = plan(limit=limit, budget_seconds=budget)
    unavoidable = START_SECONDS + search.rules.start_rounds * ROUND_SECONDS

    state, _ = race(search, NoisyEngines(seed, latency_noise=0.2))

    assert state.spent_seconds <= max(budget, unavoidable) + 1e-6


@given(seed=st.integers(0, 10**6), cut=st.integers(0, 12))
@settings(max_examples=12, deadline=None)
def test_a_search_that_is_cut_off_anywhere_goes_on_to_the_same_rounds(seed: int, cut: int) -> None:
    search = replace(plan(), budget_seconds=math.inf)
    engines = NoisyEngines(seed)
    whole, _ = race(search, engines)

    kept = State(rounds=whole.rounds[:cut], costs=Costs(START_SECONDS, ROUND_SECONDS))
    following = next_step(search, replace(kept, is_running=_running(whole.rounds[:cut])))

    if cut < len(whole.rounds):
        expected = whole.rounds[cut]
        assert isinstance(following, Measure)
        assert (following.setting, following.number) == (expected.setting, expected.number)
    else:
        assert not isinstance(following, Measure)


def _running(rounds: tuple[Round, ...]) -> Setting | None:
    return rounds[-1].setting if rounds else None


@pytest.mark.parametrize("n_rounds", [1, 3])
def test_the_exhaustive_grid_gives_each_setting_all_its_rounds(n_rounds: int) -> None:
    search = plan()
    search = replace(search, rules=replace(search.rules, max_rounds=n_rounds, min_rounds=1))
    state = State()

    while isinstance(step := exhaustive_step(search, state), Measure):
        one = Round(step.setting, step.number, {})
        state = replace(state, rounds=(*state.rounds, one))

    assert len(state.rounds) == n_rounds * (len(search.candidates) + 1)
    assert len({(one.setting, one.number) for one in state.rounds}) == len(state.rounds)
