"""How one step's rows are multiplied with their adapters' weights: pure, no torch.

Many rows of one adapter are a product of their own; the few rows of each other adapter share
products over a run of neighbouring slots. The choice is about speed alone: every split gives the
same sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Microseconds of a layer's products, float32; in bfloat16 all are two to three times as much.
# Measured on two x86-64 cores at 1 to 128 rows of 1 to 8 adapters; only their ratios decide, and
# only about speed.
_GROUP_COST = 38.0
_SHARED_COST = 30.0
_SLOT_COST = 10.0
_ROW_COST = 0.1


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How one step's rows are multiplied.

    Attributes:
        singles: (slot, rows) pairs that get a matrix product of their own.
        shared_rows: rows that share products over a run of slots, ascending.
        shared_slots: the slot of each shared row.
    """

    singles: tuple[tuple[int, tuple[int, ...]], ...] = ()
    shared_rows: tuple[int, ...] = ()
    shared_slots: tuple[int, ...] = ()

    @property
    def first_slot(self) -> int:
        """The lowest slot of a shared row."""
        return min(self.shared_slots, default=0)

    @property
    def n_slots(self) -> int:
        """From there to the highest one, both counted."""
        return max(self.shared_slots, default=-1) + 1 - self.first_slot


def plan_groups(slots: Sequence[int]) -> GroupPlan:
    """Choose the cheapest split of the rows; `slots[i]` is row i's slot, -1 for a base-model row.

    Large groups are multiplied alone; the rest shares products over the slots from its lowest to
    its highest. Base rows are in neither, so nothing is ever added to them.
    """
    groups: dict[int, list[int]] = {}
    for row, slot in enumerate(slots):
        if slot >= 0:
            groups.setdefault(slot, []).append(row)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    best_cost, n_singles = float("inf"), 0
    for n in range(len(ordered) + 1):
        cost = _GROUP_COST * n + _cost_of_sharing(ordered[n:])
        if cost < best_cost:
            best_cost, n_singles = cost, n
    shared = sorted((row, slot) for slot, rows in ordered[n_singles:] for row in rows)
    return GroupPlan(
        tuple((slot, tuple(rows)) for slot, rows in ordered[:n_singles]),
        tuple(row for row, _ in shared),
        tuple(slot for _, slot in shared),
    )


def _cost_of_sharing(groups: Sequence[tuple[int, Sequence[int]]]) -> float:
    """Every row is multiplied with every slot of the run, and keeps what its own made."""
    if not groups:
        return 0.0
    n_rows = sum(len(rows) for _, rows in groups)
    slots = [slot for slot, _ in groups]
    n_slots = max(slots) + 1 - min(slots)
    return _SHARED_COST + n_slots * (_SLOT_COST + _ROW_COST * n_rows)
