"""What a tensor's name in an adapter file means: which module, and which half of the pair.

PEFT writes `base_model.model.<module>.lora_A.weight`; other endings are features by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Side = Literal["A", "B"]

PEFT_PREFIX = "base_model.model."
_ENDINGS: dict[str, Side] = {".lora_A.weight": "A", ".lora_B.weight": "B"}
_EMBEDDING_MODULES = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")


@dataclass(frozen=True, slots=True)
class LoraTensorName:
    """One half of a pair. `has_prefix` tells whether PEFT's own prefix stood before the module."""

    module: str
    side: Side
    has_prefix: bool = True

    def __str__(self) -> str:
        prefix = PEFT_PREFIX if self.has_prefix else ""
        return f"{prefix}{self.module}.lora_{self.side}.weight"


def parse_lora_name(name: str) -> LoraTensorName | None:
    """Parse a LoRA matrix's name, the inverse of `str`; None for any other tensor."""
    for ending, side in _ENDINGS.items():
        if name.endswith(ending) and len(name) > len(ending):
            path = name.removesuffix(ending)
            module = path.removeprefix(PEFT_PREFIX)
            if not module or ".base_layer" in f".{module}":
                return None
            return LoraTensorName(module, side, has_prefix=module != path)
    return None


def classify_other(name: str) -> str:
    """Finding code of a tensor that is no LoRA matrix."""
    if "lora_magnitude_vector" in name:
        return "magnitude_tensor"
    parts = name.split(".")
    if "lora_embedding_" in name or any(part in _EMBEDDING_MODULES for part in parts):
        return "embedding_tensor"
    if parts[-1] == "bias":
        return "bias_tensor"
    if "base_layer" in parts:
        return "base_layer_tensor"
    return "tensor_unsupported"


@dataclass(slots=True)
class LoraModule:
    """The tensor names of one module of the file; None where the half is absent."""

    module: str
    has_prefix: bool = True
    halves: dict[Side, str] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Last part of the module's name, `q_proj`: what the engine's target list names."""
        return self.module.rpartition(".")[2]


def group_modules(names: Iterable[str]) -> tuple[dict[str, LoraModule], tuple[str, ...]]:
    """(modules by name in sorted order, names of all other tensors)."""
    modules: dict[str, LoraModule] = {}
    others = []
    for name in sorted(names):
        parsed = parse_lora_name(name)
        if parsed is None or parsed.side in modules.get(parsed.module, LoraModule("")).halves:
            others.append(name)
            continue
        module = modules.setdefault(parsed.module, LoraModule(parsed.module))
        module.halves[parsed.side] = name
        module.has_prefix = module.has_prefix and parsed.has_prefix
    return modules, tuple(others)
