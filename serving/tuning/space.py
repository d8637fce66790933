"""What `tune` may choose: settings, the axes they are taken from, and which of them differ at all.

Pure. A setting costs an engine start, so one that cannot behave differently from another, under
this load, is left out before anything is started, with the reason.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from types import MappingProxyType
from typing import Any

from serving.engine.profile import CPU_SLOTS_PER_GPU_SLOT, EngineProfile, ProfileInvalid

SHARE_FLAG = "--gpu-memory-utilization"
AXES = (
    "max_num_batched_tokens",
    "long_prefill_token_threshold",
    "max_num_seqs",
    "gpu_slots",
    "gpu_memory_share",
)
"""What is searched, the axis that decides most first."""
_SHORT = {
    "max_num_batched_tokens": "tokens",
    "long_prefill_token_threshold": "threshold",
    "max_num_seqs": "seqs",
    "gpu_slots": "slots",
    "gpu_memory_share": "memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One point of the search; None is vLLM's own default, as in a profile."""

    max_num_batched_tokens: int | None = None
    long_prefill_token_threshold: int | None = None
    max_num_seqs: int | None = None
    enable_chunked_prefill: bool = True
    gpu_slots: int = 8
    gpu_memory_share: float | None = None

    @property
    def name(self) -> str:
        """`tokens 128, threshold 32, slots 8`; unique, and what people read."""
        parts = [] if self.enable_chunked_prefill else ["chunked prefill off"]
        for axis in AXES:
            value = getattr(self, axis)
            if value is not None:
                parts.append(f"{_SHORT[axis]} {value}")
        if self.max_num_batched_tokens is None:
            parts.insert(0, "tokens as vLLM")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Fields by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Setting:
        """What `to_json` gave."""
        return cls(**values)

    @classmethod
    def of(cls, profile: EngineProfile) -> Setting:
        """The point at which a profile stands, its threshold as the engine will use it."""
        return cls(
            max_num_batched_tokens=profile.max_num_batched_tokens,
            long_prefill_token_threshold=profile.prefill_threshold,
            max_num_seqs=profile.max_num_seqs,
            enable_chunked_prefill=profile.enable_chunked_prefill,
            gpu_slots=profile.gpu_slots,
            gpu_memory_share=_share_of(profile),
        )

    def apply(self, profile: EngineProfile) -> EngineProfile:
        """The profile with this setting in it.

        CPU memory keeps its four places per slot, unless the profile set that rule aside.

        Raises:
            ProfileInvalid: the values do not go together.
        """
        arguments = tuple(a for a in profile.extra_arguments if not a.startswith(SHARE_FLAG))
        if self.gpu_memory_share is not None:
            arguments += (f"{SHARE_FLAG}={self.gpu_memory_share:g}",)
        cpu_slots = profile.cpu_slots
        if "cpu_slots" not in profile.waived:
            cpu_slots = max(cpu_slots, CPU_SLOTS_PER_GPU_SLOT * self.gpu_slots)
        return dataclasses.replace(
            profile,
            max_num_batched_tokens=self.max_num_batched_tokens,
            long_prefill_token_threshold=self.long_prefill_token_threshold,
            max_num_seqs=self.max_num_seqs,
            enable_chunked_prefill=self.enable_chunked_prefill,
            gpu_slots=self.gpu_slots,
            cpu_slots=cpu_slots,
            extra_arguments=arguments,
        )


def _share_of(profile: EngineProfile) -> float | None:
    for argument in profile.extra_arguments:
        flag, _, value = argument.partition("=")
        if flag == SHARE_FLAG and value:
            try:
                return float(value)
            except ValueError:
                raise ProfileInvalid("extra_arguments", f"{argument!r} is no number") from None
    return None


@dataclass(frozen=True, slots=True)
class Load:
    """What of the load decides which settings can differ."""

    longest_prompt: int
    """Tokens."""
    n_adapters: int
    n_requests: int
    longest_request: int = 0
    """Tokens, prompt and output together."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A setting that is not measured, and why."""

    setting: Setting
    reason: str


@dataclass(frozen=True, slots=True)
class Space:
    """Values per axis; an axis without values keeps the start's.

    `long_prefill_token_threshold` holds shares of the token budget, (0, 1]: a threshold means
    something only against its budget, and 1 is none.
    """

    values: Mapping[str, tuple[float, ...]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        for axis, values in self.values.items():
            if axis not in AXES:
                raise ValueError(f"{axis} is no axis; there are {', '.join(AXES)}")
            is_share = axis in ("long_prefill_token_threshold", "gpu_memory_share")
            for value in values:
                if value <= 0 or (is_share and value > 1):
                    raise ValueError(f"{axis}: {value:g} is not {_wanted(is_share)}")

    def settings(self, start: Setting) -> list[Setting]:
        """Every combination, the start among them only where the axes hold it."""
        budgets = self._axis("max_num_batched_tokens", start.max_num_batched_tokens)
        seqs = self._axis("max_num_seqs", start.max_num_seqs)
        slots = self._axis("gpu_slots", start.gpu_slots)
        memory = self.values.get("gpu_memory_share", ()) or (start.gpu_memory_share,)
        shares = self.values.get("long_prefill_token_threshold", ())
        return [
            Setting(
                max_num_batched_tokens=budget,
                long_prefill_token_threshold=_threshold(budget, share, start),
                max_num_seqs=n_seqs,
                gpu_slots=n_slots or start.gpu_slots,
                gpu_memory_share=share_of_memory,
            )
            for budget, share, n_seqs, n_slots, share_of_memory in product(
                budgets, shares or (None,), seqs, slots, memory
            )
        ]

    def _axis(self, name: str, start: int | None) -> tuple[int | None, ...]:
        return tuple(int(value) for value in self.values.get(name, ())) or (start,)


def _wanted(is_share: bool) -> str:
    return "between 0 and 1" if is_share else "positive"


def _threshold(budget: int | None, share: float | None, start: Setting) -> int | None:
    if budget is None:
        return start.long_prefill_token_threshold
    # The profile's own rule, a quarter of the budget, where nothing else is asked for.
    return max(1, round(budget * (0.25 if share is None else share)))


def default_space(profile: EngineProfile, *, is_cpu: bool, load: Load) -> Space:
    """The axes that are searched when none are named.

    Budgets by octaves: a step costs a constant plus a part that grows with its tokens, so what a
    budget does changes with its logarithm. The memory share is the CPU platform's `kv_cache_gib`
    by another name, and is searched on a GPU only.
    """
    largest = 1024 if is_cpu else 8192
    budgets = tuple(largest >> octaves for octaves in range(5))[::-1]
    slots = {profile.gpu_slots, profile.gpu_slots * 2, max(1, profile.gpu_slots // 2)}
    values: dict[str, tuple[float, ...]] = {
        "max_num_batched_tokens": budgets,
        "long_prefill_token_threshold": (0.25, 0.5, 1.0),
        "max_num_seqs": (16, 64, 256),
        "gpu_slots": tuple(sorted(slots)) if load.n_adapters > 1 else (),
    }
    if not is_cpu:
        values["gpu_memory_share"] = (0.85, 0.92)
    return Space(MappingProxyType(values))


def reference_of(start: Setting, profile: EngineProfile, load: Load) -> Setting:
    """The start without chunked prefill: every prompt whole in one step.

    The budget holds the longest request that may come. So does the threshold, without which the
    profile would cut long prompts after all; vLLM takes none above max_model_len.
    """
    longest = profile.max_model_len or load.longest_request
    return dataclasses.replace(
        start,
        enable_chunked_prefill=False,
        max_num_batched_tokens=max(4096, longest),
        long_prefill_token_threshold=longest,
    )


def choose_candidates(
    settings: Sequence[Setting], start: Setting, profile: EngineProfile, load: Load
) -> tuple[tuple[Setting, ...], tuple[LeftOut, ...]]:
    """(those worth a start of an engine, the others with the reason).

    Left out is what no engine takes, and what acts under this load as a setting that stays: a
    threshold above every prompt, more slots than adapters, more sequences than requests. Of several
    that act alike, the first stays; the start, which is measured anyway, before all.
    """
    kept: list[Setting] = []
    left: list[LeftOut] = []
    by_effect = {effect_of(start, load): start}
    for setting in dict.fromkeys(_within_length(one, profile) for one in settings):
        if setting == start:
            continue
        if (reason := _refusal(setting, profile)) is not None:
            left.append(LeftOut(setting, f"no engine takes it: {reason}"))
            continue
        twin = by_effect.setdefault(effect_of(setting, load), setting)
        if twin is setting:
            kept.append(setting)
        else:
            left.append(LeftOut(setting, f"acts as `{twin.name}` under this load"))
    return tuple(kept), tuple(left)


def _within_length(setting: Setting, profile: EngineProfile) -> Setting:
    """vLLM 0.32 takes no threshold above max_model_len; one at it cuts nothing either."""
    threshold, longest = setting.long_prefill_token_threshold, profile.max_model_len
    if threshold is None or longest is None or threshold <= longest:
        return setting
    return dataclasses.replace(setting, long_prefill_token_threshold=longest)


def _refusal(setting: Setting, profile: EngineProfile) -> str | None:
    """Why an engine would not start; None: nothing is known against it."""
    budget, n_seqs = setting.max_num_batched_tokens, setting.max_num_seqs
    if budget is not None and n_seqs is not None and n_seqs > budget:
        # vLLM 0.32, config/scheduler.py, verify_max_model_len.
        return "max_num_seqs is above max_num_batched_tokens"
    try:
        setting.apply(profile)
    except ProfileInvalid as exc:
        return f"{exc.field}: {exc.problem}"
    return None


def effect_of(setting: Setting, load: Load) -> Setting:
    """The setting with each value that this load cannot reach replaced by its bound."""
    threshold, budget = setting.long_prefill_token_threshold, setting.max_num_batched_tokens
    seqs = setting.max_num_seqs
    # A threshold that no prompt passes, or that the budget forestalls, is none.
    if threshold is not None and threshold >= min(budget or threshold, load.longest_prompt):
        threshold = None
    return dataclasses.replace(
        setting,
        long_prefill_token_threshold=threshold,
        max_num_seqs=None if seqs is None or seqs >= load.n_requests else seqs,
        gpu_slots=min(setting.gpu_slots, max(1, load.n_adapters)),
    )
