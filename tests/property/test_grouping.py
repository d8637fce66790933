"""The rows of a step are multiplied exactly once each, and base rows never."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.compat.grouping import GroupPlan, plan_groups

steps = st.lists(st.integers(-1, 63), max_size=200)


def rows_by_slot(plan: GroupPlan) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {slot: list(rows) for slot, rows in plan.singles}
    for row, slot in zip(plan.shared_rows, plan.shared_slots, strict=True):
        assert slot not in dict(plan.singles)
        found.setdefault(slot, []).append(row)
    return found


@given(steps)
def test_every_adapter_row_is_multiplied_once_with_its_own_slot(slots: list[int]) -> None:
    wanted: dict[int, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot >= 0:
            wanted.setdefault(slot, []).append(row)

    assert rows_by_slot(plan_groups(slots)) == wanted


@given(steps)
def test_the_shared_product_is_over_the_slots_from_its_lowest_to_its_highest(
    slots: list[int],
) -> None:
    plan = plan_groups(slots)

    assert list(plan.shared_rows) == sorted(plan.shared_rows)
    run = range(plan.first_slot, plan.first_slot + plan.n_slots)
    assert set(plan.shared_slots) <= set(run)
    assert {run[0], run[-1]} <= set(plan.shared_slots) if run else not plan.shared_rows


def test_a_long_prefill_beside_seven_decodes_is_multiplied_alone() -> None:
    slots = [0] * 128 + [1, 2, 3, 4, 5, 6, 7]

    plan = plan_groups(slots)

    assert [slot for slot, _ in plan.singles] == [0]
    assert (plan.first_slot, plan.n_slots) == (1, 7)


def test_many_adapters_with_one_row_each_share_one_product() -> None:
    assert plan_groups([3, 1, 7, 0, 2, 6, 5, 4]).singles == ()


def test_one_adapter_is_multiplied_alone_wherever_its_slot_is() -> None:
    assert plan_groups([5] * 8).singles == ((5, tuple(range(8))),)


def test_a_step_of_base_rows_alone_plans_nothing() -> None:
    assert plan_groups([-1] * 16) == GroupPlan()
