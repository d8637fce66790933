"""What a plan is made from and of: the goal, the fleet as it is, sizes, and what they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Goal:
    """What the fleet shall reach; where both are given, both. None: no matter.

    Raises:
        ValueError: a miss ratio outside of 0 to 1, or seconds below 0.
    """

    miss_ratio: float | None = 0.05
    added_seconds: float | None = None
    """Mean seconds that loading may add to a request."""

    def __post_init__(self) -> None:
        if self.miss_ratio is not None and not 0 <= self.miss_ratio <= 1:
            raise ValueError(f"a miss ratio of {self.miss_ratio}")
        if self.added_seconds is not None and not self.added_seconds >= 0:
            raise ValueError(f"{self.added_seconds} added seconds")


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
    """Smallest set with 90 % of five minutes' requests, on the engine where it is largest."""
    slot_bytes: int | None = None
    """At `max_rank`."""
    kv_bytes_per_token: int | None = None
    kv_tokens: int | None = None


class Outcome(StrEnum):
    """They complete the sentence "the goal ..."."""

    REACHED = "is reached"
    UNREACHABLE = "cannot be reached"
    """Not by sizes: first uses alone are more, or the slots would not leave memory for requests."""
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
    """Of the whole fleet."""
    added_seconds: float | None
    slot_bytes: int | None
    kv_tokens_lost: int | None
    """Of each engine against today; below zero: so many are won."""


@dataclass(frozen=True, slots=True)
class PlanWarning:
    """Something to know before following the plan. `code` is stable, `data` is JSON-ready."""

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
    warnings: tuple[PlanWarning, ...]
    is_enough_data: bool
