"""The capacity API's bodies. Every key is always there; what is not known is null, never a number.

Times are Unix seconds; names are `acme/support@3`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ResidencyMode = Literal["auto", "off"]


class CurvePointOut(BaseModel):
    """What one number of slots would have meant for the requests of the window."""

    slots: int
    miss_ratio: float | None
    loads_per_minute: float | None
    added_seconds: float | None
    """Expected extra time of a request through loads; null where no load was timed yet."""


class CurveOut(BaseModel):
    """A miss-ratio curve: every slot count up to 256, then about 5 % apart."""

    n_requests: int
    n_names: int
    seconds: float
    points: list[CurvePointOut]


class MemoryOut(BaseModel):
    """What the engine has really allocated; bytes per GPU."""

    slot_bytes: int
    kv_bytes_per_token: int
    kv_tokens: int


class LoadSecondsOut(BaseModel):
    """Mean duration of a load by source; null where none happened."""

    disk: float | None
    cache: float | None


class TraceOut(BaseModel):
    """How far this controller has read the engine's access trace."""

    position: int
    """Events that the engine says it has written."""
    next: int | None
    """The first event that this controller has not read; null before its first page."""
    lag_events: int | None
    lost_events: int
    """Events that the ring had overwritten before they were read."""
    error: str | None
    """Why the last look failed; null: it did not."""


class EngineCapacityOut(BaseModel):
    """One reachable engine: its own counts, and the curve of its trace."""

    engine: str
    gpu_slots: int
    cpu_slots: int
    max_rank: int
    active: list[str]
    """Least recently used first; `cached` too."""
    cached: list[str]
    pinned: list[str]
    hot: dict[str, int]
    hot_90: dict[str, int]
    loads_disk: int
    loads_cache: int
    evictions_slot: int
    evictions_cache: int
    removals: int
    failures: int
    adapters: list[dict[str, Any]]
    """`serving.contract.AdapterCounts`, most requests first, at most 1000."""
    memory: MemoryOut | None
    load_seconds: LoadSecondsOut
    trace: TraceOut
    curve: CurveOut | None
    """Null until something was read of its trace."""


class ResidencyOut(BaseModel):
    """Whether hot adapters are kept on purpose, and which, by engine."""

    mode: ResidencyMode
    wishes: dict[str, list[str]]


class CapacityOut(BaseModel):
    """The whole fleet's capacity."""

    window_seconds: float
    engines: list[EngineCapacityOut]
    unreachable: list[str]
    fleet: CurveOut | None
    """As the fleet is: a sum over its engines, each with the same number of slots."""
    residency: ResidencyOut


class GoalOut(BaseModel):
    """What was asked for; where both are given, both."""

    miss_ratio: float | None
    added_seconds: float | None


class ShapeNowOut(BaseModel):
    """What runs now, and what it costs."""

    engines: int
    gpu_slots: int | None
    cpu_slots: int | None
    max_rank: int | None
    miss_ratio: float | None
    loads_per_minute: float | None
    added_seconds: float | None


class ShapeOut(BaseModel):
    """What is recommended; slots are per engine."""

    engines: int
    gpu_slots: int
    cpu_slots: int
    max_rank: int


class PredictedOut(BaseModel):
    """What the recommended shape would have meant for the requests of the window."""

    miss_ratio: float | None
    loads_per_minute: float | None
    added_seconds: float | None
    slot_bytes: int | None
    kv_tokens_lost: int | None
    """Per engine, against today; negative where the cache would grow."""


class PlanWarningOut(BaseModel):
    """Something about the traffic or the fleet that slots alone don't cure."""

    code: str
    text: str
    data: dict[str, Any]


class PlanOut(BaseModel):
    """How many slots, engines and what rank the goal needs, with the reason in words."""

    goal: GoalOut
    is_reachable: bool | None
    """Null: nothing was asked for yet, or load times that the goal needs are not known."""
    is_enough_data: bool
    now: ShapeNowOut
    recommended: ShapeOut | None
    predicted: PredictedOut | None
    reasons: list[str]
    warnings: list[PlanWarningOut]


class EngineHistoryOut(BaseModel):
    """One engine over time: sums within a step, or the last value of a step."""

    requests: list[int | None]
    loads_disk: list[int | None]
    loads_cache: list[int | None]
    evictions_slot: list[int | None]
    evictions_cache: list[int | None]
    hot_1m: list[int | None]
    active: list[int | None]


class AdapterHistoryOut(BaseModel):
    """One adapter over time, over all engines."""

    name: str
    requests: list[int | None]
    in_slot: list[float | None]
    """Share of the step's samples in which it held a slot somewhere."""


class HistoryOut(BaseModel):
    """Sampled history; null where nothing was sampled."""

    step_seconds: float
    times: list[float]
    """When each step begins."""
    engines: dict[str, EngineHistoryOut]
    adapters: list[AdapterHistoryOut]
    """Most requests first."""


class AdapterRowOut(BaseModel):
    """One version: what the registry knows and what all reachable engines counted."""

    name: str
    tenant: str
    adapter: str
    version: int
    state: str | None
    """Null: engines hold counts of it, the registry does not know it."""
    is_live: bool
    verdict: str | None
    rank: int | None
    requests: int
    prompt_tokens: int
    completion_tokens: int
    ttft_p50_seconds: float | None
    ttft_p99_seconds: float | None
    inter_token_p99_seconds: float | None
    loads_disk: int
    loads_cache: int
    evictions_slot: int
    evictions_cache: int
    removals: int
    failures: int
    slot_seconds: float
    wait_seconds: float
    active_on: list[str]
    cached_on: list[str]
    is_pinned: bool


class AdapterPage(BaseModel):
    """One page of the table; `total` counts what the search found."""

    total: int
    adapters: list[AdapterRowOut]


class ResidencyIn(BaseModel):
    """Turn residency on or off."""

    model_config = ConfigDict(extra="forbid")

    mode: ResidencyMode


SortField = Literal[
    "name",
    "tenant",
    "adapter",
    "version",
    "state",
    "is_live",
    "verdict",
    "rank",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "ttft_p50_seconds",
    "ttft_p99_seconds",
    "inter_token_p99_seconds",
    "loads_disk",
    "loads_cache",
    "evictions_slot",
    "evictions_cache",
    "removals",
    "failures",
    "slot_seconds",
    "wait_seconds",
]
"""Fields of `AdapterRowOut` that a table may be sorted by."""

Order = Literal["asc", "desc"]
Window = Literal["5m", "1h", "24h"]
WINDOW_SECONDS: dict[str, float] = {"5m": 300.0, "1h": 3600.0, "24h": 86400.0}
Search = Annotated[str, Field(max_length=200)]
