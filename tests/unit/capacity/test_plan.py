"""A plan has the smallest sizes that reach the goal, or says that none do."""

from __future__ import annotations

from typing import Any

import pytest

from serving.capacity.curve import Curve, make_curve
from serving.capacity.plan import FleetFacts, Goal, Outcome, Sizes, choose_plan, predict


def curve(weights: dict[int, float], *, n_cold: int = 10, n_names: int = 100) -> Curve:
    n_requests = round(sum(weights.values())) + n_cold
    return make_curve(weights, n_requests=n_requests, n_cold=n_cold, seconds=600.0, n_names=n_names)


USUAL = curve({1: 500.0, 6: 300.0, 20: 150.0, 60: 40.0})
"""1,000 requests: 50 % miss with one slot, 20 % with 6, 5 % with 20, 1 % with 60."""


def facts(**values: Any) -> FleetFacts:
    usual = {"n_engines": 1, "gpu_slots": 8, "cpu_slots": 32, "max_rank": 16}
    return FleetFacts(**{**usual, **values})


def test_the_fewest_slots_reach_the_miss_ratio_with_four_places_each() -> None:
    plan = choose_plan({1: USUAL}, facts(), Goal(miss_ratio=0.05))

    assert plan.outcome is Outcome.REACHED
    assert plan.recommended == Sizes(engines=1, gpu_slots=20, cpu_slots=80, max_rank=16)
    assert plan.predicted is not None
    assert plan.predicted.miss_ratio == 0.05
    assert plan.predicted.loads_per_minute == 5.0
    assert plan.now.miss_ratio == 0.2
    assert plan.is_enough_data


def test_fewer_slots_than_today_are_recommended_where_they_are_enough() -> None:
    plan = choose_plan({1: USUAL}, facts(gpu_slots=64, cpu_slots=256), Goal(miss_ratio=0.5))

    assert plan.recommended == Sizes(engines=1, gpu_slots=1, cpu_slots=60, max_rank=16)


def test_cpu_memory_holds_what_is_used_again() -> None:
    far = curve({1: 900.0, 300: 90.0})

    plan = choose_plan({1: far}, facts(), Goal(miss_ratio=0.1))

    assert plan.recommended is not None
    assert (plan.recommended.gpu_slots, plan.recommended.cpu_slots) == (1, 300)


def test_first_uses_above_the_goal_make_it_unreachable() -> None:
    plan = choose_plan({1: USUAL, 2: USUAL}, facts(), Goal(miss_ratio=0.005))

    assert plan.outcome is Outcome.UNREACHABLE
    assert plan.recommended is None
    assert plan.predicted is None
    assert "First uses alone are 1.0 %" in plan.reasons[0]


def test_without_requests_nothing_is_judged() -> None:
    plan = choose_plan({1: curve({}, n_cold=0)}, facts(), Goal())

    assert (plan.outcome, plan.recommended) == (Outcome.UNKNOWN, None)
    assert plan.now.miss_ratio is None
    assert not plan.is_enough_data


def test_added_seconds_decide_where_they_are_the_goal() -> None:
    seconds = {"cache": 0.1, "disk": 1.0}

    plan = choose_plan(
        {1: USUAL}, facts(load_seconds=seconds), Goal(miss_ratio=None, added_seconds=0.031)
    )

    assert plan.recommended is not None
    assert plan.recommended.gpu_slots == 6
    assert plan.predicted is not None
    assert plan.predicted.added_seconds == pytest.approx(0.2 * 0.1 + 0.01 * 1.0)


def test_both_goals_take_the_larger_number_of_slots() -> None:
    seconds = {"cache": 0.1, "disk": 1.0}

    plan = choose_plan(
        {1: USUAL}, facts(load_seconds=seconds), Goal(miss_ratio=0.05, added_seconds=0.031)
    )

    assert plan.recommended is not None
    assert plan.recommended.gpu_slots == 20


def test_added_seconds_cannot_be_judged_before_a_load_was_seen() -> None:
    plan = choose_plan({1: USUAL}, facts(), Goal(miss_ratio=None, added_seconds=0.1))

    assert plan.outcome is Outcome.UNKNOWN
    assert "cache or disk" in plan.reasons[0]


def test_reads_from_disk_can_make_added_seconds_unreachable() -> None:
    seconds = {"cache": 0.1, "disk": 10.0}

    plan = choose_plan(
        {1: USUAL}, facts(load_seconds=seconds), Goal(miss_ratio=None, added_seconds=0.05)
    )

    assert plan.outcome is Outcome.UNREACHABLE
    assert "0.05 s" in plan.reasons[0]


@pytest.mark.parametrize(("ranks", "wanted"), [([8, 8], 8), ([4, 20], 32), ([], 16)])
def test_the_rank_class_carries_all_versions(ranks: list[int], wanted: int) -> None:
    in_use = {f"acme/a@{index}": rank for index, rank in enumerate(ranks)}

    plan = choose_plan({1: USUAL}, facts(ranks=in_use), Goal())

    assert plan.recommended is not None
    assert plan.recommended.max_rank == wanted


def test_another_rank_changes_a_slots_bytes_and_the_kv_cache() -> None:
    known = facts(slot_bytes=1600, kv_bytes_per_token=100, kv_tokens=1000)

    same = predict(USUAL, Sizes(1, 20, 80, 16), known)
    lower = predict(USUAL, Sizes(1, 8, 32, 8), known)

    assert (same.slot_bytes, same.kv_tokens_lost) == (1600, 12 * 16)
    assert (lower.slot_bytes, lower.kv_tokens_lost) == (800, -64)


def test_more_engines_are_recommended_only_where_slots_do_not_fit() -> None:
    # 8 slots of 1,600 bytes and 128 tokens of 100: 25,600 bytes, so at most 8 slots.
    known = facts(slot_bytes=1600, kv_bytes_per_token=100, kv_tokens=128)
    halved = curve({1: 500.0, 3: 300.0, 8: 150.0, 30: 40.0})

    plan = choose_plan({1: USUAL, 2: halved, 3: halved}, known, Goal(miss_ratio=0.05))
    roomy = choose_plan({1: USUAL, 2: halved}, facts(), Goal(miss_ratio=0.05))

    assert plan.recommended is not None
    assert (plan.recommended.engines, plan.recommended.gpu_slots) == (2, 8)
    assert any("2 do" in reason for reason in plan.reasons)
    assert roomy.recommended is not None
    assert roomy.recommended.engines == 1


def test_slots_that_no_number_of_engines_can_hold_are_said() -> None:
    known = facts(slot_bytes=1600, kv_bytes_per_token=100, kv_tokens=128)

    plan = choose_plan({1: USUAL}, known, Goal(miss_ratio=0.05))

    assert plan.outcome is Outcome.UNREACHABLE
    assert "takes 20 slots" in plan.reasons[0]
    assert "more than 8" in plan.reasons[0]


def test_todays_engines_must_have_a_curve() -> None:
    with pytest.raises(KeyError):
        choose_plan({2: USUAL}, facts(), Goal())
