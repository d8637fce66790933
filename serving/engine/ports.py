"""What the engine room needs of the inference engine; `compat` implements it, tests have a fake.

Every adapter in here has a version's name (`acme/support@3`) and one immutable folder. Only
`prefetch` and `remove` change which adapters are in CPU memory, so a mirror of that is exact.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from serving.contract import EngineKind

UNKNOWN_BASE = "unknown"
"""A base whose folder could not be read: equal to no base that the gate knows."""
LAST_PRIORITY = 100
"""Arbitrary but above 0, the class of every tenant's request: vLLM takes lower numbers first."""


class EngineError(Exception):
    """Base of what a port may raise.

    EngineError
    ├── LoadRefused           this adapter must not be served; says nothing about the others
    ├── EngineBusy            every place in CPU memory is leased; try again later
    └── EngineUnavailable     the engine did not answer; says nothing about the adapter
    """


class LoadRefused(EngineError):
    """The engine refuses this adapter; `reason` is a stable slug."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class EngineBusy(EngineError):
    """Every place in CPU memory is leased, nothing was changed."""


class EngineUnavailable(EngineError):
    """The engine did not answer (dead, stopping, timed out)."""


@dataclass(frozen=True, slots=True)
class LoadOutcome:
    """A finished load. `source`: read from disk now, or already in CPU memory."""

    source: Literal["disk", "resident"]
    evicted: tuple[str, ...] = ()
    """Names that left CPU memory for this one, in the order of their eviction."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GeneratedTokens:
    """One greedy answer, token by token; the four sequences of a token have the same index."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Natural log of the chosen token's probability, raw (before any sampling parameter)."""
    margins: tuple[float, ...]
    """Logprob of the best token minus that of the second best, in nats."""
    is_finite: bool
    """False where the engine met a NaN or Inf in this request's logits."""


@dataclass(frozen=True, slots=True)
class AdapterLoads:
    """Exact counts of one adapter since the engine started (or since it was forgotten)."""

    loads_disk: int = 0
    """Reads from disk into CPU memory."""
    loads_cache: int = 0
    """Copies from CPU memory into a slot."""
    evictions_slot: int = 0
    """Times that it left a slot for another adapter."""
    evictions_cache: int = 0
    removals: int = 0
    """Times that it left CPU memory because somebody asked for that."""
    failures: int = 0
    """Loads that were refused or failed."""
    slot_seconds: float = 0.0
    """Time in a slot, the present stay included."""


@dataclass(frozen=True, slots=True)
class LoadSeconds:
    """A histogram: `counts[i]` loads took at most `bounds[i]` and more than the bound before.

    `counts` has one more place than `bounds`, for what took longer than the last bound.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total_seconds: float


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """What one rank of the engine has allocated; see `serving.contract.EngineMemory`."""

    slot_bytes: int
    kv_bytes_per_token: int
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What the engine's own caches say, at one moment."""

    adapters: Mapping[str, AdapterLoads] = field(default_factory=dict)
    active: tuple[str, ...] = ()
    """Names that hold a slot, least recently used first."""
    cached: tuple[str, ...] = ()
    """Names in CPU memory, least recently used first."""
    load_seconds: Mapping[str, LoadSeconds] = field(default_factory=dict)
    """By source: `disk`, `cache`."""
    non_finite: frozenset[str] = frozenset()
    """Names whose requests made non-finite logits since their last `remove`."""
    loads_in_step: int = 0
    """Reads from disk inside an engine step; the leases keep this at 0."""
    memory: MemoryFacts | None = None
    """None where the engine's own tensors could not be read."""


@dataclass(frozen=True, slots=True)
class EngineDescription:
    """What this engine is; constant from start to stop."""

    build: str
    """`vllm 0.32.0+cpu / loraplane 0.1.0`."""
    dtype: str
    """The model's number type as the engine resolved it: `float32`, `bfloat16`, `float16`."""
    gpu_slots: int
    cpu_slots: int
    max_rank: int
    max_model_len: int
    base_revision: str = UNKNOWN_BASE
    """`BaseModelCard.revision` of the served base."""
    has_priorities: bool = False
    """Whether requests of a lower class wait behind others."""
    unhooked: Mapping[str, str] = field(default_factory=dict)
    """Hooks that could not be installed, and why."""

    @property
    def kind(self) -> EngineKind:
        """What a proof on this engine holds for."""
        return EngineKind(self.build, self.base_revision, self.dtype)

    @property
    def last_priority(self) -> int:
        """Class of requests that wait behind every tenant's; 0 where there are no classes."""
        return LAST_PRIORITY if self.has_priorities else 0


class EnginePort(Protocol):
    """One running engine, seen from its API process; used from one event loop."""

    def describe(self) -> EngineDescription:
        """What this engine is."""
        ...

    async def prefetch(self, name: str, path: str, leased: Collection[str]) -> LoadOutcome:
        """Bring an adapter into CPU memory and make it the most recently used one.

        Reads off the engine's loop, checks strictly, then registers; evicts least recently used
        adapters except the `leased` ones. No slot is taken. For a resident one only the order
        changes. The files are not read again unless the adapter is evicted.

        Raises:
            LoadRefused: the adapter would not compute what its files say; nothing was evicted.
            EngineBusy: all places are leased; nothing was changed.
            EngineUnavailable: the engine did not answer.
        """
        ...

    async def remove(self, name: str, *, is_forgotten: bool = True) -> None:
        """Free slot and CPU memory and forget name, path and non-finite mark; idempotent.

        `is_forgotten` ends the adapter's counts too; else this counts as a removal, if it was in.
        The caller has seen `in_flight(name) == 0` and lets nobody in.

        Raises:
            EngineUnavailable: the engine did not answer.
        """
        ...

    async def keep_hot(self, names: Sequence[str]) -> None:
        """Prefer these adapters in slots, hottest first, in place of those named before.

        One that holds a slot keeps it as long as no batch needs the place; none is loaded for this.
        Names that the engine does not hold mean nothing until it does; no names turn it off.

        Raises:
            EngineUnavailable: the engine did not answer; what it prefers is not known.
        """
        ...

    async def generate(
        self, name: str | None, prompt_token_ids: list[int], max_tokens: int
    ) -> GeneratedTokens:
        """Answer greedily (temperature 0, end-of-sequence ignored), base model for None.

        Waits behind tenants' requests where the engine has priorities.

        The adapter is resident and the caller holds a lease on it.

        Raises:
            EngineUnavailable: the engine did not answer.
        """
        ...

    async def observe(self) -> WorkerFacts:
        """The worker's published facts; from a file, never waits for the engine."""
        ...

    def in_flight(self, name: str) -> int:
        """Requests of this adapter that the engine has not finished, waiting ones included."""
        ...

    async def abort(self, name: str) -> int:
        """Abort those requests; returns how many there were."""
        ...
