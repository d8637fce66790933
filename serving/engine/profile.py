"""Everything about one engine that an operator may choose: a YAML file, and settings that win.

Strict: an unknown or impossible value is an error that names what would be right. The neighbour
`vllm_flags` turns a profile into vLLM's command line.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from serving.settings import EngineSettings

VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM 0.32 takes for --max-lora-rank (config/lora.py)."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
CPU_SLOTS_PER_GPU_SLOT = 4
"""With fewer, an adapter that leaves a slot soon leaves memory too, and is read from disk again."""
EXTRA_ARGUMENTS = frozenset(
    {
        "async-scheduling", "attention-backend", "block-size", "compilation-config",
        "enable-auto-tool-choice", "enable-prompt-tokens-details",
        "fully-sharded-loras", "gpu-memory-utilization", "kv-cache-dtype", "load-format",
        "max-logprobs", "max-num-queued-reqs", "max-num-queued-tokens", "no-enable-prefix-caching",
        "num-gpu-blocks-override", "pipeline-parallel-size", "quantization", "reasoning-parser",
        "revision", "seed",
        "specialize-active-lora", "tensor-parallel-size", "tokenizer",
        "tool-call-parser", "trust-remote-code", "uvicorn-log-level",
    }
)  # fmt: skip
"""vLLM flags (without dashes) that a profile may pass through. None of them can weaken a promise:
flags about adapters, keys, routes, middleware and names are ours."""

_TYPES: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int,), "str": (str,)}
"""By the word in a field's annotation; the YAML types that it takes."""


class ProfileInvalid(ValueError):
    """A profile that cannot be used; `field` and `problem` say where and why."""

    def __init__(self, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"engine profile: {field}: {problem}")


@dataclass(frozen=True, kw_only=True)
class EngineProfile:
    """One engine's shape; each field has its meaning and unit below it."""

    model: str
    """Folder or hub id of the base model."""
    gpu_slots: int = 8
    """Different adapters in one batch (vLLM `max_loras`); each slot is memory for `max_rank`."""
    cpu_slots: int = 64
    """Adapters in CPU memory (vLLM `max_cpu_loras`); at least 4 x gpu_slots."""
    max_rank: int = 16
    """Largest LoRA rank (vLLM `max_lora_rank`): 1, 8, 16, 32, 64, 128, 256, 320 or 512."""
    max_model_len: int | None = None
    """Longest sequence, in tokens; None: the model's own."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16, for base and adapters."""
    target_modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Modules that adapters may change. Without lm_head and embeddings: prompt scoring with an
    adapted lm_head is wrong in vLLM 0.32 (issue 51594)."""
    enable_chunked_prefill: bool = True
    """Off only to measure what it does."""
    max_num_batched_tokens: int | None = None
    """Tokens per step: the main knob of inter-token latency against throughput; None: vLLM's."""
    long_prefill_token_threshold: int | None = None
    """Most tokens of one long prompt per step; None: a quarter of max_num_batched_tokens if set."""
    max_num_seqs: int | None = None
    """Sequences per step; None: vLLM's."""
    is_gate_last: bool = True
    """The parity gate's requests wait behind tenants' (vLLM `scheduling_policy` priority)."""
    shutdown_timeout_seconds: int = 60
    """How long requests in flight may take to finish on SIGTERM."""
    kv_cache_gib: int | None = None
    """KV cache on the CPU platform, in GiB; None: vLLM's."""
    enforce_eager: bool = False
    """No CUDA graphs and no compilation: starts faster, runs slower."""
    chat_template: str | None = None
    """File of a chat template that replaces the model's."""
    extra_arguments: tuple[str, ...] = ()
    """More vLLM flags, `--name` or `--name=value`, from a short list."""

    waived: tuple[str, ...] = ()
    """Fields whose rule of thumb is set aside on purpose; `cpu_slots` is the only one."""

    def __post_init__(self) -> None:
        for name in ("gpu_slots", "cpu_slots", "max_model_len", "max_num_batched_tokens",
                     "long_prefill_token_threshold", "max_num_seqs", "kv_cache_gib"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ProfileInvalid(name, f"{value} is not positive")
        least = CPU_SLOTS_PER_GPU_SLOT * self.gpu_slots
        if self.cpu_slots < least and "cpu_slots" not in self.waived:
            raise ProfileInvalid(
                "cpu_slots", f"{self.cpu_slots} is less than 4 x gpu_slots, {least}"
            )
        if self.max_rank not in VLLM_RANKS:
            raise ProfileInvalid("max_rank", f"{self.max_rank} is not one of {VLLM_RANKS}")
        if self.dtype not in DTYPES:
            raise ProfileInvalid("dtype", f"{self.dtype!r} is not one of {DTYPES}")
        if not self.target_modules:
            raise ProfileInvalid("target_modules", "an engine without any serves no adapter")
        if self.shutdown_timeout_seconds < 0:
            raise ProfileInvalid("shutdown_timeout_seconds", "is negative")
        self._check_tokens()
        self._check_extra_arguments()

    def _check_tokens(self) -> None:
        budget, threshold = self.max_num_batched_tokens, self.long_prefill_token_threshold
        if budget is not None and threshold is not None and threshold > budget:
            raise ProfileInvalid(
                "long_prefill_token_threshold", f"{threshold} is more than the budget {budget}"
            )
        length = self.max_model_len
        if not self.enable_chunked_prefill and None not in (budget, length) and budget < length:  # type: ignore[operator]
            raise ProfileInvalid(
                "max_num_batched_tokens",
                f"without chunked prefill a prompt of {length} tokens does not fit into {budget}",
            )

    def _check_extra_arguments(self) -> None:
        for argument in self.extra_arguments:
            name = argument.removeprefix("--").partition("=")[0]
            if not argument.startswith("--") or name not in EXTRA_ARGUMENTS:
                close = _close_to(name, EXTRA_ARGUMENTS)
                raise ProfileInvalid("extra_arguments", f"{argument!r} may not be passed{close}")

    @property
    def prefill_threshold(self) -> int | None:
        """The threshold in use: the given one, or a quarter of the budget."""
        if self.long_prefill_token_threshold is not None or self.max_num_batched_tokens is None:
            return self.long_prefill_token_threshold
        return max(1, self.max_num_batched_tokens // 4)


def read_profile(settings: EngineSettings) -> EngineProfile:
    """The profile of the settings' file, if any, with the settings that win over it.

    Raises:
        ProfileInvalid: the file cannot be read, or a value cannot be used.
    """
    values: dict[str, Any] = {}
    if settings.profile is not None:
        values = _load_yaml(settings.profile)
    names = ("model", "gpu_slots", "cpu_slots", "max_rank", "max_model_len", "dtype")
    for name in names:
        value = getattr(settings, name)
        if value is not None:
            values[name] = value
    return parse_profile(values)


def parse_profile(values: dict[str, Any]) -> EngineProfile:
    """Check names and types, then the values.

    Without `cpu_slots` there are 64, or 4 x gpu_slots where that is more.

    Raises:
        ProfileInvalid: an unknown field, a value of another type, or one that cannot be used.
    """
    known = get_type_hints(EngineProfile)
    for name in values:
        if name not in known:
            raise ProfileInvalid(name, f"is not a field{_close_to(name, known)}")
    checked = {name: _typed(name, value, str(known[name])) for name, value in values.items()}
    if not checked.get("model"):
        raise ProfileInvalid("model", "is missing")
    if "cpu_slots" not in checked and "gpu_slots" in checked:
        default = {f.name: f.default for f in dataclasses.fields(EngineProfile)}["cpu_slots"]
        checked["cpu_slots"] = max(default, CPU_SLOTS_PER_GPU_SLOT * checked["gpu_slots"])
    return EngineProfile(**checked)


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as exc:
        raise ProfileInvalid(str(path), str(exc)) from exc
    if loaded is None:
        return {}
    if not isinstance(loaded, dict):
        raise ProfileInvalid(str(path), "is not a mapping of fields to values")
    return {str(name): value for name, value in loaded.items()}


def _typed(name: str, value: Any, wanted: str) -> Any:
    if value is None and "None" in wanted:
        return None
    if "tuple" in wanted:
        if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif type(value) in _accepted(wanted):  # Not isinstance: True is no number of slots.
        return value
    raise ProfileInvalid(name, f"{value!r} is not {_plain(wanted)}")


def _accepted(wanted: str) -> tuple[type, ...]:
    return next(kinds for word, kinds in _TYPES.items() if word in wanted)


def _plain(wanted: str) -> str:
    if "tuple" in wanted:
        return "a list of strings"
    return wanted.removeprefix("<class '").removesuffix("'>")


def _close_to(name: str, known: Any) -> str:
    matches = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(matches)}?" if matches else ""
