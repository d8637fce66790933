"""Whether two engines fit into this machine at once: then runs take turns, which is fairer.

Runs that take turns meet the same moods of the machine. Where only one engine fits, the current one
has its runs first, then the candidate, and more of them in the reverse order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from adapters.base_model import BaseModelCard
from serving.engine.profile import EngineProfile
from serving.tuning.space import SHARE_FLAG

_GIB = 1024**3
_VLLM_SHARE = 0.92
"""vLLM 0.32's own gpu_memory_utilization (config/cache.py)."""
_MOST_SHARE = 0.97
"""Beyond it, two engines on one card have no room for their own overheads."""
_OVERHEAD_BYTES = 2 * _GIB
"""Of an engine without weights and KV cache: three Python processes with torch, 1.2 to 1.8 GiB
measured."""
_MEMORY_SHARE = 0.9
_WIDE = {"float32": 4, "bfloat16": 2, "float16": 2}


class Order(StrEnum):
    """They complete the sentence "the runs are ..."."""

    ALONE = "alone"
    """There is only one engine to measure."""
    INTERLEAVED = "interleaved"
    IN_TURN = "in turn"


@dataclass(frozen=True, slots=True)
class Chosen:
    """An order, and why it is this one."""

    order: Order
    reason: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides whether two engines fit."""

    available_bytes: int
    has_accelerator: bool


def choose_order(
    profiles: Sequence[EngineProfile],
    weights_bytes: Sequence[int],
    machine: Machine,
    *,
    n_running: int = 0,
) -> Chosen:
    """The order for engines that would all be started here; `weights_bytes` of each one's base.

    `n_running` of those that are compared run already, here or elsewhere.
    """
    if len(profiles) + n_running < 2:
        return Chosen(Order.ALONE, "there is one engine to measure")
    if n_running:
        return Chosen(Order.INTERLEAVED, "one of the two runs already")
    if machine.has_accelerator and all(one.kv_cache_gib is None for one in profiles):
        shares = [memory_share(one) for one in profiles]
        if sum(shares) <= _MOST_SHARE:
            return Chosen(Order.INTERLEAVED, f"both fit on the card, with shares {shares}")
        return Chosen(
            Order.IN_TURN, f"both want {sum(shares):.2f} of the card's memory, so one at a time"
        )
    if any(one.kv_cache_gib is None for one in profiles):
        return Chosen(
            Order.IN_TURN,
            "a profile without kv_cache_gib takes most of the memory, so one at a time",
        )
    wanted = sum(map(_cpu_bytes, profiles, weights_bytes))
    has_room = wanted <= _MEMORY_SHARE * machine.available_bytes
    compared = (
        f"both need about {wanted / _GIB:.1f} GiB, "
        f"and {machine.available_bytes / _GIB:.1f} GiB are free"
    )
    return Chosen(Order.INTERLEAVED if has_room else Order.IN_TURN, compared)


def memory_share(profile: EngineProfile) -> float:
    """The card's share that an engine takes; vLLM's own where the profile says nothing."""
    for argument in profile.extra_arguments:
        name, _, value = argument.partition("=")
        if name == SHARE_FLAG:
            try:
                return float(value)
            except ValueError:
                break
    return _VLLM_SHARE


def _cpu_bytes(profile: EngineProfile, weights_bytes: int) -> int:
    return weights_bytes + (profile.kv_cache_gib or 0) * _GIB + _OVERHEAD_BYTES


def weights_bytes_of(folder: Path, card: BaseModelCard, dtype: str) -> int:
    """Bytes of the base's weights in memory, in the profile's number type."""
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    wide, narrow = _WIDE.get(dtype), _WIDE.get(card.dtype)
    return stored * wide // narrow if wide and narrow else stored


def available_bytes(*, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Free memory in bytes: the machine's, or what the container's limit leaves."""
    lines = (proc / "meminfo").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("MemAvailable:"))
    free = 1024 * int(line.split()[1])
    try:
        limit = int((cgroup / "memory.max").read_text())
        used = int((cgroup / "memory.current").read_text())
    except (OSError, ValueError):  # No cgroup v2, or "max": no limit.
        return free
    return max(0, min(free, limit - used))
