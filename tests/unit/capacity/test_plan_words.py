"""A plan's reasons have the numbers, and its warnings what to know before following it."""

from __future__ import annotations

from typing import Any

from serving.capacity.curve import Curve, make_curve
from serving.capacity.plan import FleetFacts, Goal, Plan, choose_plan

CURVE = make_curve(
    {1: 500.0, 6: 300.0, 20: 150.0, 60: 40.0},
    n_requests=1000,
    n_cold=10,
    seconds=600.0,
    n_names=100,
)


def plan(curve: Curve = CURVE, goal: Goal | None = None, **values: Any) -> Plan:
    usual = {"n_engines": 1, "gpu_slots": 8, "cpu_slots": 32, "max_rank": 16}
    return choose_plan({1: curve}, FleetFacts(**{**usual, **values}), goal or Goal())


def codes(found: Plan) -> list[str]:
    return [warning.code for warning in found.warnings]


def test_the_reasons_say_what_today_and_the_recommended_size_miss() -> None:
    reasons = plan(
        ranks={"acme/a@1": 16}, slot_bytes=2**20, kv_bytes_per_token=2**10, kv_tokens=100_000
    ).reasons

    assert reasons == (
        "Of 1,000 requests in 10 minutes, 20.0 % would miss with today's 8 slots, and 5.0 % with "
        "20.",
        "First uses are 1.0 % of the requests; they miss at every size.",
        "80 places in CPU memory, 4 for each slot: beside first uses 0.0 % of the requests would "
        "read from disk.",
        "The largest rank in use is 16, which max_rank 16 carries.",
        "A slot takes 1.0 MiB; against today's 8, 20 leave each engine 12,288 tokens of KV cache "
        "fewer of 100,000.",
    )


def test_a_lower_rank_class_is_said() -> None:
    reasons = plan(max_rank=64, ranks={"acme/a@1": 8}).reasons

    assert (
        "The largest rank in use is 8: max_rank 8 is the smallest that carries it, today's is 64."
        in reasons
    )


def test_a_healthy_fleet_has_no_warning() -> None:
    found = plan(ranks={"a/a@1": 16, "b/a@1": 16}, tenant_shares={"a": 0.4, "b": 0.3, "c": 0.3})

    assert codes(found) == []


def test_few_requests_are_a_warning() -> None:
    few = make_curve({1: 95.0}, n_requests=99, n_cold=4, seconds=60.0, n_names=4)

    found = plan(few)

    assert codes(found) == ["little_data"]
    assert found.warnings[0].data == {"n_requests": 99}
    assert not found.is_enough_data


def test_a_load_for_every_third_request_is_thrash() -> None:
    found = plan(gpu_slots=4, cpu_slots=16)

    assert codes(found) == ["thrash"]
    assert found.warnings[0].data["loads_per_request"] == 0.5


def test_first_uses_of_adapters_that_all_fit_are_no_thrash() -> None:
    cold = make_curve({1: 200.0}, n_requests=300, n_cold=100, seconds=60.0, n_names=100)

    assert codes(plan(cold, gpu_slots=100, cpu_slots=400)) == []


def test_a_hot_set_over_the_recommended_slots_is_a_warning() -> None:
    assert codes(plan(hot_adapters=20)) == []
    assert codes(plan(hot_adapters=21)) == ["hot_set_over_slots"]


def test_mixed_ranks_say_how_many_bytes_stay_empty() -> None:
    ranks = {"a/a@1": 8, "a/b@1": 8, "a/c@1": 8, "b/a@1": 64}

    found = plan(max_rank=64, ranks=ranks, slot_bytes=6400)

    assert codes(found) == ["mixed_ranks"]
    assert found.warnings[0].data == {
        "max_rank": 64,
        "versions_by_rank": {"8": 3, "64": 1},
        "wasted_ratio": 3 * 56 / (4 * 64),
        # Of 20 recommended slots, each 6,400 bytes.
        "wasted_bytes": 3 * 56 * 100 * 20 // 4,
    }


def test_one_rank_or_little_padding_is_no_warning() -> None:
    assert codes(plan(ranks={"a/a@1": 9, "a/b@1": 9})) == []
    assert codes(plan(ranks={"a/a@1": 14, "a/b@1": 16})) == []


def test_a_tenant_with_half_of_the_requests_is_a_warning_where_there_are_others() -> None:
    assert codes(plan(tenant_shares={"acme": 0.5, "zen": 0.5})) == ["dominant_tenant"]
    assert codes(plan(tenant_shares={"acme": 1.0})) == []
    assert codes(plan(tenant_shares={"acme": 0.4, "zen": 0.3, "b": 0.3})) == []


def test_warnings_are_given_without_a_recommendation_too() -> None:
    found = plan(goal=Goal(miss_ratio=0.0), gpu_slots=4, cpu_slots=16, hot_adapters=5)

    assert found.recommended is None
    assert codes(found) == ["thrash", "hot_set_over_slots"]


def test_a_rank_whose_slot_does_not_fit_is_said() -> None:
    found = plan(
        goal=Goal(miss_ratio=1.0),
        ranks={"a/a@1": 512},
        slot_bytes=1600,
        kv_bytes_per_token=100,
        kv_tokens=128,
    )

    assert found.recommended is None
    assert found.reasons == (
        "Not one slot for the ranks in use fits into half of an engine's memory for slots and KV "
        "cache; 8 of rank 16 do today.",
    )
