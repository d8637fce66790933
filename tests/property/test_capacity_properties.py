"""Curves equal a simulated LRU at every size, windows their events, and choices stay put."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.capacity.companions import Bursts
from serving.capacity.curve import make_curve, merge_curves
from serving.capacity.locality import Locality
from serving.capacity.plan import FleetFacts, Goal, Outcome, choose_plan
from serving.capacity.residency import ResidencyState, choose_hot
from serving.capacity.segments import SEGMENTS
from serving.capacity.stack_distance import StackDistances
from tests.builders.request_traces import NaiveStack, Step, lru_misses

NAMES = st.sampled_from([f"t{index}/a@1" for index in range(12)])
KINDS = st.sampled_from(["access", "access", "access", "access", "touch", "forget"])
STEPS = st.lists(st.tuples(KINDS, NAMES), max_size=120)


def fed(steps: list[Step]) -> Locality:
    locality = Locality()
    for at, (kind, name) in enumerate(steps):
        if kind == "forget":
            locality.forget(name)
        elif kind == "touch":
            locality.touch(name, float(at))
        else:
            locality.access(name, float(at))
    return locality


@given(STEPS)
def test_misses_equal_a_simulated_lru_at_every_slot_count(steps: list[Step]) -> None:
    curve = fed(steps).curve(3600.0, 120.0)

    assert [curve.misses(slots) for slots in range(1, 14)] == [
        lru_misses(steps, slots) for slots in range(1, 14)
    ]
    assert curve.misses(0) == curve.n_requests == sum(kind == "access" for kind, _ in steps)


@given(st.integers(0, 2**32), st.sampled_from([40, 300, 700]))
@settings(max_examples=15)
def test_distances_stay_exact_over_blocks_and_new_numberings(seed: int, n_names: int) -> None:
    draw = random.Random(seed)
    stack, naive = StackDistances(), NaiveStack()
    for _ in range(4000):
        # Squared, so that both near and far names come up.
        name = f"n{int(n_names * draw.random() ** 2)}"
        if draw.random() < 0.05:
            stack.forget(name)
            naive.forget(name)
        else:
            assert stack.access(name) == naive.access(name)

    assert list(stack) == naive.names()
    assert len(stack) == len(naive.names())


@given(
    st.lists(st.tuples(st.floats(0, 200), NAMES), min_size=1, max_size=80),
    st.sampled_from([20.0, 100.0]),
)
def test_a_window_holds_its_own_requests_and_at_most_a_segment_more(
    gaps_and_names: list[tuple[float, str]], window: float
) -> None:
    locality, at, times = Locality(window_seconds=(20.0, 100.0)), 1000.0, list[float]()
    for gap, name in gaps_and_names:
        at += gap / 20
        locality.access(name, at)
        times.append(at)
    now = at + 3.0

    curve = locality.curve(window, now)

    inside = sum(time > now - window for time in times)
    nearly = sum(time >= now - window * (1 + 1 / SEGMENTS) - 1e-9 for time in times)
    assert inside <= curve.n_requests <= nearly
    assert curve.seconds <= window * (1 + 1 / SEGMENTS) + 1e-9
    assert curve.seconds >= min(window, now - times[0]) - 1e-9


@given(st.lists(STEPS, min_size=1, max_size=4))
def test_engines_together_miss_as_often_as_each_of_them(parts: list[list[Step]]) -> None:
    curves = [fed(steps).curve(3600.0, 120.0) for steps in parts]

    merged = merge_curves(curves)

    for slots in range(14):
        assert merged.misses(slots) == sum(curve.misses(slots) for curve in curves)


@given(
    st.dictionaries(st.integers(1, 400), st.integers(1, 50), max_size=40),
    st.integers(0, 30),
    st.floats(0.0, 1.0),
)
def test_a_plan_has_the_fewest_slots_that_reach_the_goal(
    weights: dict[int, int], n_cold: int, ratio: float
) -> None:
    n_requests = sum(weights.values()) + n_cold
    curve = make_curve(
        weights, n_requests=n_requests, n_cold=n_cold, seconds=60.0, n_names=max(n_cold, 1)
    )
    facts = FleetFacts(n_engines=1, gpu_slots=8, cpu_slots=32, max_rank=16)

    plan = choose_plan({1: curve}, facts, Goal(miss_ratio=ratio))

    if not n_requests:
        assert plan.outcome is Outcome.UNKNOWN
    elif n_cold > ratio * n_requests:
        assert plan.outcome is Outcome.UNREACHABLE
        assert plan.recommended is None
    else:
        assert plan.recommended is not None
        slots = plan.recommended.gpu_slots
        assert curve.misses(slots) <= ratio * n_requests
        assert slots == 1 or curve.misses(slots - 1) > ratio * n_requests
        assert plan.recommended.cpu_slots >= 4 * slots
        assert curve.misses(plan.recommended.cpu_slots) - n_cold <= 0.01 * n_requests


RATES = st.lists(st.floats(0.001, 100.0), max_size=30)


@given(RATES, st.integers(1, 16), st.integers(0, 2**32))
def test_constant_rates_with_bounded_noise_change_the_choice_at_most_once(
    rates: list[float], gpu_slots: int, seed: int
) -> None:
    draw, state, changes = random.Random(seed), ResidencyState(), 0
    for turn in range(30):
        noisy = {f"n{i}": rate * draw.uniform(0.9, 1.1) for i, rate in enumerate(rates)}
        choice = choose_hot(state, noisy, gpu_slots=gpu_slots, now=100.0 * turn)
        state, changes = choice.state, changes + choice.is_changed

    assert changes <= 1


@given(RATES, RATES, st.integers(1, 16))
def test_a_quarter_of_the_slots_and_at_least_one_stays_free(
    before: list[float], after: list[float], gpu_slots: int
) -> None:
    state = ResidencyState()
    for turn, rates in enumerate((before, after, before)):
        by_name = {f"n{index}": rate for index, rate in enumerate(rates)}
        choice = choose_hot(state, by_name, gpu_slots=gpu_slots, now=100.0 * turn)
        state = choice.state

        assert len(set(choice.hot)) == len(choice.hot) <= gpu_slots - max(1, gpu_slots // 4)
        assert set(choice.hot) <= set(by_name)


@given(st.lists(st.tuples(st.floats(0, 200), NAMES), max_size=60))
def test_companions_are_versions_of_the_tenant_itself(uses: list[tuple[float, str]]) -> None:
    bursts, at = Bursts(), 0.0
    for gap, name in uses:
        at += gap
        bursts.used(name, at)

    for tenant, names in bursts.together(min_share=0.5, min_bursts=2).items():
        assert len(names) > 1
        assert all(name.startswith(f"{tenant}/") for name in names)
