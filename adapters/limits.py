"""What an adapter may be: the serving engine's side, and the bounds of an upload."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.base_model import DEFAULT_TARGET_MODULES
from adapters.tensor_values import ENGINE_NUMBERS


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What the fleet's engines can hold. `dtype` is concrete: float32, bfloat16 or float16."""

    max_rank: int = 16
    dtype: str = "float32"
    target_modules: tuple[str, ...] = DEFAULT_TARGET_MODULES
    """Last names of the modules that the engine wraps."""

    def __post_init__(self) -> None:
        if self.dtype not in ENGINE_NUMBERS:
            raise ValueError(f"dtype {self.dtype!r} is none of {sorted(ENGINE_NUMBERS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """Bounds of unpacking one upload."""

    max_total_bytes: int = 2 * 1024**3
    """Unpacked bytes of all members together, the ignored ones included."""
    max_members: int = 64
    """A training checkpoint has about 20 files."""
    max_ratio: float = 200.0
    """Unpacked over packed bytes; float weights compress by less than 2, text by less than 20."""
