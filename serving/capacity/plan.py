"""How many slots, engines and what rank a fleet needs for a goal.

The fewest slots that reach it: each one costs KV cache, which every request needs. The words for
it are next door, in `plan_words`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping

from serving.capacity.curve import Curve
from serving.capacity.plan_facts import (
    FleetFacts,
    Goal,
    Outcome,
    Plan,
    PlanWarning,
    Prediction,
    Sizes,
)
from serving.capacity.plan_words import reasons_for, unknown_reason, unreachable_reasons, warnings
from serving.capacity.sizing import (
    CPU_SLOTS_PER_GPU_SLOT,
    added_seconds,
    rank_class,
    slots_that_fit,
)

__all__ = [
    "FleetFacts",
    "Goal",
    "Outcome",
    "Plan",
    "PlanWarning",
    "Prediction",
    "Sizes",
    "choose_plan",
    "predict",
]

MIN_REQUESTS = 200
"""Arbitrary: a miss ratio of 5 % of 200 requests is known to about 3 points."""
MAX_DISK_SHARE = 0.01
"""Requests after the first that may find their adapter outside CPU memory; arbitrary."""


def choose_plan(curves: Mapping[int, Curve], facts: FleetFacts, goal: Goal) -> Plan:
    """The smallest sizes that reach the goal.

    `curves`: by number of engines, each the sum over that many; today's number must be there. More
    engines are recommended only where today's cannot reach the goal, and never fewer: how many
    requests one engine can carry is nothing that misses tell.

    Raises:
        KeyError: no curve for today's number of engines.
    """
    curve = curves[facts.n_engines]
    today = Sizes(facts.n_engines, facts.gpu_slots, facts.cpu_slots, facts.max_rank)
    now = predict(curve, today, facts)
    is_enough = curve.n_requests >= MIN_REQUESTS
    reason = unknown_reason(curve, facts, goal)
    if reason is not None:
        cautions = warnings(curve, facts, None, is_enough)
        return Plan(goal, Outcome.UNKNOWN, now, None, None, (reason,), cautions, is_enough)
    max_rank = rank_class(facts.ranks.values()) or facts.max_rank
    limit = _most_slots(facts, max_rank)
    for n_engines in (facts.n_engines, *sorted(n for n in curves if n > facts.n_engines)):
        sizes = _smallest(curves[n_engines], facts, goal, (n_engines, max_rank))
        if sizes is None or (limit is not None and sizes.gpu_slots > limit):
            continue
        chosen = curves[n_engines]
        predicted = predict(chosen, sizes, facts)
        return Plan(
            goal,
            Outcome.REACHED,
            now,
            sizes,
            predicted,
            reasons_for(curve, chosen, facts, sizes, predicted),
            warnings(curve, facts, sizes, is_enough),
            is_enough,
        )
    reasons = unreachable_reasons(curves, facts, goal, limit)
    cautions = warnings(curve, facts, None, is_enough)
    return Plan(goal, Outcome.UNREACHABLE, now, None, None, reasons, cautions, is_enough)


def predict(curve: Curve, sizes: Sizes, facts: FleetFacts) -> Prediction:
    """What these sizes would have led to on the curve's requests."""
    bytes_of_slot = kv_tokens_lost = None
    if facts.slot_bytes is not None:
        bytes_of_slot = facts.slot_bytes * sizes.max_rank // facts.max_rank
        if facts.kv_bytes_per_token:
            more = sizes.gpu_slots * bytes_of_slot - facts.gpu_slots * facts.slot_bytes
            kv_tokens_lost = round(more / facts.kv_bytes_per_token)
    return Prediction(
        miss_ratio=curve.miss_ratio(sizes.gpu_slots),
        loads_per_minute=curve.loads_per_minute(sizes.gpu_slots),
        added_seconds=_added(curve, facts, sizes.gpu_slots, sizes.cpu_slots),
        slot_bytes=bytes_of_slot,
        kv_tokens_lost=kv_tokens_lost,
    )


def _smallest(
    curve: Curve, facts: FleetFacts, goal: Goal, engines_and_rank: tuple[int, int]
) -> Sizes | None:
    """None: no sizes reach it."""
    n_engines, max_rank = engines_and_rank
    slots = 1
    if goal.miss_ratio is not None:
        needed = curve.smallest_slots(goal.miss_ratio * curve.n_requests)
        if needed is None:
            return None
        slots = max(1, needed)
    for share in (MAX_DISK_SHARE, 0.0):
        warm = curve.smallest_slots(curve.n_cold + share * curve.n_requests) or 0
        if goal.added_seconds is not None:
            enough = _slots_for_seconds(curve, facts, goal.added_seconds, warm)
            if enough is None:
                continue
            slots = max(slots, enough)
        return Sizes(n_engines, slots, _cpu_slots(slots, warm), max_rank)
    return None


def _slots_for_seconds(curve: Curve, facts: FleetFacts, seconds: float, warm: int) -> int | None:
    """Fewest slots with which loading adds no more; only at a distance that occurs it is less."""

    def is_reached(slots: int) -> bool:
        added = _added(curve, facts, slots, _cpu_slots(slots, warm))
        return added is not None and added <= seconds

    sizes = (1, *(distance for distance in curve.distances if distance > 1))
    place = bisect_left(sizes, True, key=is_reached)
    return sizes[place] if place < len(sizes) else None


def _cpu_slots(slots: int, warm: int) -> int:
    return max(CPU_SLOTS_PER_GPU_SLOT * slots, warm)


def _added(curve: Curve, facts: FleetFacts, gpu_slots: int, cpu_slots: int) -> float | None:
    return added_seconds(
        curve, gpu_slots=gpu_slots, cpu_slots=cpu_slots, load_seconds=facts.load_seconds
    )


def _most_slots(facts: FleetFacts, max_rank: int) -> int | None:
    """Slots that leave half of the memory to the KV cache; None where memory is not known."""
    if facts.slot_bytes is None or facts.kv_bytes_per_token is None or facts.kv_tokens is None:
        return None
    memory = facts.gpu_slots * facts.slot_bytes + facts.kv_tokens * facts.kv_bytes_per_token
    bytes_of_slot = facts.slot_bytes * max_rank // facts.max_rank
    fit = slots_that_fit(memory, bytes_of_slot=bytes_of_slot)
    # What the fleet has today fits, whatever the rule says.
    return max(fit, facts.gpu_slots) if max_rank <= facts.max_rank else fit
