"""The rows of a step are multiplied exactly once each, and base rows never."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.compat.grouping import GroupPlan, plan_groups

steps = st.integers(1, 64).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(-1, n - 1), max_size=200))
)


def rows_by_slot(plan: GroupPlan) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {slot: list(rows) for slot, rows in plan.singles}
    for row, cell in zip(plan.batched_rows, plan.batched_cells, strict=True):
        found.setdefault(cell // plan.batched_width, []).append(row)
    return found


@given(steps)
def test_every_adapter_row_is_multiplied_once_with_its_own_slot(
    step: tuple[int, list[int]],
) -> None:
    n_slots, slots = step

    plan = plan_groups(slots, n_slots=n_slots)

    wanted: dict[int, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot >= 0:
            wanted.setdefault(slot, []).append(row)
    assert {slot: sorted(rows) for slot, rows in rows_by_slot(plan).items()} == wanted


@given(steps)
def test_no_two_rows_share_a_cell_of_the_batched_product(step: tuple[int, list[int]]) -> None:
    n_slots, slots = step

    plan = plan_groups(slots, n_slots=n_slots)

    assert len(set(plan.batched_cells)) == len(plan.batched_cells)
    assert all(0 <= cell < n_slots * plan.batched_width for cell in plan.batched_cells)


def test_a_long_prefill_beside_seven_decodes_is_multiplied_alone() -> None:
    slots = [0] * 128 + [1, 2, 3, 4, 5, 6, 7]

    plan = plan_groups(slots, n_slots=8)

    assert [slot for slot, _ in plan.singles] == [0]
    assert plan.batched_width == 1


def test_a_step_of_base_rows_alone_plans_nothing() -> None:
    assert plan_groups([-1] * 16, n_slots=8) == GroupPlan()
