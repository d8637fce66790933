"""What the values' magnitudes say: not finite, beyond the engine's numbers, or inert. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from adapters.findings import Finding
from adapters.limits import EngineLimits
from adapters.peft_config import LoraSpec
from adapters.tensor_names import LoraModule
from adapters.tensor_values import ENGINE_NUMBERS, TensorStats

# Training recipes give 0.5 to 16; arbitrary, chosen to be silent for all of them.
_USUAL_SCALING = (1 / 32, 32.0)


def check_scaling(modules: Mapping[str, LoraModule], spec: LoraSpec) -> Iterator[Finding]:
    """Effective scalings that no recipe gives, one finding per distinct value."""
    low, high = _USUAL_SCALING
    seen: dict[float, str] = {}
    for name in modules:
        seen.setdefault(spec.scaling_of(name), name)
    for scaling, name in seen.items():
        if not low <= scaling <= high:
            yield Finding("scaling_unusual", name, scaling, f"{low} to {high}")


def check_values(
    modules: Mapping[str, LoraModule],
    values: Mapping[str, TensorStats],
    *,
    spec: LoraSpec,
    limits: EngineLimits,
) -> Iterator[Finding]:
    """Judge the statistics of a file's tensors for an engine of `limits.dtype`."""
    numbers = ENGINE_NUMBERS[limits.dtype]
    for name, stats in values.items():
        if stats.n_not_finite:
            yield Finding("value_not_finite", name, stats.n_not_finite, 0)
    inert = []
    for name, module in modules.items():
        pairs = [(side, values[t]) for side, t in module.halves.items() if t in values]
        for side, stats in pairs:
            # The engine casts first, and then folds the scaling into B in its own number type.
            factor = max(1.0, spec.scaling_of(name)) if side == "B" else 1.0
            if stats.max_abs * factor >= numbers.overflow_at:
                yield Finding(
                    "value_overflows", module.halves[side], stats.max_abs * factor, limits.dtype
                )
            if 0 < stats.max_abs <= numbers.zero_at:
                yield Finding("value_underflows", module.halves[side], stats.max_abs, limits.dtype)
        if any(not stats.n_not_finite and stats.max_abs <= numbers.zero_at for _, stats in pairs):
            inert.append(name)
    if inert and len(inert) == len(modules):
        yield Finding("adapter_inert", None, len(inert), 0)
    else:
        yield from (Finding("module_inert", name) for name in inert)
