"""How one step's rows are multiplied with their adapters' weights: pure, no torch.

Many rows of one adapter are one matrix product; the few rows of each other adapter share one
batched product over all slots. The choice is about speed alone: every split gives the same sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Microseconds, float32 and bfloat16 within a factor of two, measured on two x86-64 cores with
# bench/scenarios/lora_kernels.py; only their ratios decide, and only about speed.
_GROUP_COST = 35.0
_BATCH_COST = 25.0
_ROW_COST = 0.27
_IDLE_SLOT_COST = 13.0


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How one step's rows are multiplied.

    Attributes:
        singles: (slot, rows) pairs that get a matrix product of their own.
        batched_rows: rows that share one batched product over all slots.
        batched_width: rows reserved per slot in that product.
        batched_cells: `slot * width + position` of each batched row.
    """

    singles: tuple[tuple[int, tuple[int, ...]], ...] = ()
    batched_rows: tuple[int, ...] = ()
    batched_cells: tuple[int, ...] = ()
    batched_width: int = 0


def plan_groups(slots: Sequence[int], *, n_slots: int) -> GroupPlan:
    """Choose the cheapest split of the rows; `slots[i]` is row i's slot, -1 for a base-model row.

    Large groups are multiplied alone; the rest goes through one batched product over all slots,
    padded to its largest group. Base rows are in neither, so nothing is ever added to them.
    """
    groups: dict[int, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot >= 0:
            groups.setdefault(slot, []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    best_cost, n_singles = float("inf"), 0
    for n in range(len(ordered) + 1):
        rest = ordered[n:]
        cost = _GROUP_COST * n
        if rest:
            cost += _BATCH_COST + _ROW_COST * n_slots * len(rest[0][1])
            cost += _IDLE_SLOT_COST * (n_slots - len(rest))
        if cost < best_cost:
            best_cost, n_singles = cost, n
    rest = ordered[n_singles:]
    width = len(rest[0][1]) if rest else 0
    return GroupPlan(
        singles=tuple((slot, tuple(rows)) for slot, rows in ordered[:n_singles]),
        batched_rows=tuple(row for _, rows in rest for row in rows),
        batched_cells=tuple(
            slot * width + position for slot, rows in rest for position, _ in enumerate(rows)
        ),
        batched_width=width,
    )
