"""How many slots, engines and what rank a fleet needs for a goal, with the reasons in words.

The fewest slots that reach the goal: each one costs KV cache, which every request needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from serving.capacity.curve import Curve
from serving.capacity.sizing import CPU_SLOTS_PER_GPU_SLOT, added_seconds, rank_class

MIN_REQUESTS = 200
"""Arbitrary: a miss ratio of 5 % of 200 requests is known to about 3 points."""
MAX_DISK_SHARE = 0.01
"""Warm requests that may find their adapter outside CPU memory; arbitrary, memory is cheap."""
MAX_SLOT_SHARE = 0.5
"""Of the memory for slots and KV cache, what slots may take; arbitrary."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What the fleet shall reach; where both are given, both."""

    miss_ratio: float | None = 0.05
    added_seconds: float | None = None
    """Mean seconds that loading may add to a request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFacts:
    """The fleet as it is. Sizes are of one engine; None is unknown."""

    n_engines: int
    gpu_slots: int
    cpu_slots: int
    max_rank: int
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Rank of each version in use, by name."""
    tenant_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of the requests by tenant."""
    load_seconds: Mapping[str, float | None] = field(default_factory=dict)
    """Mean seconds of a load by source: `disk`, `cache`."""
    hot_adapters: int | None = None
    """Different adapters used in five minutes on the busiest engine."""
    slot_bytes: int | None = None
    """At `max_rank`."""
    kv_bytes_per_token: int | None = None
    kv_tokens: int | None = None


class Outcome(StrEnum):
    """They complete the sentence "the goal ..."."""

    REACHED = "is reached"
    UNREACHABLE = "cannot be reached"
    UNKNOWN = "cannot be judged"
    """Nothing was asked for yet, or load times that the goal needs are not known."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of each engine, and how many engines."""

    engines: int
    gpu_slots: int
    cpu_slots: int
    max_rank: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """What sizes lead to, on the requests that the curve saw. None is unknown."""

    miss_ratio: float | None
    loads_per_minute: float | None
    added_seconds: float | None
    slot_bytes: int | None
    kv_tokens_lost: int | None
    """Of each engine against today; below zero: so many are won."""


@dataclass(frozen=True, slots=True)
class Warning:
    """Something to know before following the plan. `code` is stable."""

    code: str
    text: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """`recommended` and `predicted` are None unless the goal is reached."""

    goal: Goal
    outcome: Outcome
    now: Prediction
    recommended: Sizes | None
    predicted: Prediction | None
    reasons: tuple[str, ...]
    warnings: tuple[Warning, ...]
    is_enough_data: bool


def choose_plan(curves: Mapping[int, Curve], facts: FleetFacts, goal: Goal) -> Plan:
    """The smallest sizes that reach the goal.

    `curves`: by number of engines, each the sum over that many; today's number must be there. More
    engines are recommended only where today's cannot reach the goal, never fewer: how many
    requests an engine can carry is nothing that misses tell.

    Raises:
        KeyError: no curve for today's number of engines.
    """
    now = predict(curves[facts.n_engines], _today(facts), facts)
    curve = curves[facts.n_engines]
    slots = curve.smallest_slots((goal.miss_ratio or 1.0) * curve.n_requests)
    is_enough = curve.n_requests >= MIN_REQUESTS
    if not curve.n_requests or slots is None:
        outcome = Outcome.UNREACHABLE if curve.n_requests else Outcome.UNKNOWN
        return Plan(goal, outcome, now, None, None, (), (), is_enough)
    slots = max(1, slots)
    sizes = Sizes(
        facts.n_engines,
        slots,
        CPU_SLOTS_PER_GPU_SLOT * slots,
        rank_class(list(facts.ranks.values())) or facts.max_rank,
    )
    predicted = predict(curve, sizes, facts)
    return Plan(goal, Outcome.REACHED, now, sizes, predicted, (), (), is_enough)


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
        added_seconds=added_seconds(
            curve,
            gpu_slots=sizes.gpu_slots,
            cpu_slots=sizes.cpu_slots,
            load_seconds=facts.load_seconds,
        ),
        slot_bytes=bytes_of_slot,
        kv_tokens_lost=kv_tokens_lost,
    )


def _today(facts: FleetFacts) -> Sizes:
    return Sizes(facts.n_engines, facts.gpu_slots, facts.cpu_slots, facts.max_rank)
