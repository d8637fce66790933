"""Module names of the file against the base, the engine and the config's target rules. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from adapters.base_model import BaseModelCard
from adapters.findings import Finding
from adapters.limits import EngineLimits
from adapters.patterns import matches_suffix
from adapters.peft_config import LoraSpec, targets
from adapters.tensor_names import PEFT_PREFIX, LoraModule

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})\.")
_HEADS = frozenset({"lm_head", "embed_tokens", "wte", "embed_in", "embed_out"})


def layer_of(module: str) -> int | None:
    """Number of the layer that a module is in, or None outside the layers."""
    match = _LAYER.search(module)
    return int(match[1]) if match else None


def check_names(
    modules: Mapping[str, LoraModule], card: BaseModelCard, limits: EngineLimits
) -> Iterator[Finding]:
    """Every module of the file has to be one of the base that the engine wraps."""
    tails = {_tail(module): module for module in card.modules}
    for name, module in modules.items():
        if module.kind in _HEADS and module.kind not in limits.target_modules:
            # A base with tied weights has no module of this name, and still it means the head.
            yield Finding("target_outside_engine", name, module.kind, list(limits.target_modules))
        elif name not in card.modules:
            yield _unknown_module(name, card, tails)
        elif not module.has_prefix:
            yield Finding("module_prefix_off", name, name, PEFT_PREFIX + name)
        elif module.kind not in limits.target_modules:
            yield Finding("target_outside_engine", name, module.kind, list(limits.target_modules))


def _unknown_module(name: str, card: BaseModelCard, tails: Mapping[str, str]) -> Finding:
    layer = layer_of(name)
    if layer is not None and layer >= card.n_layers:
        return Finding("layer_beyond_base", name, layer, f"0 to {card.n_layers - 1}")
    meant = tails.get(_tail(name))
    if meant is not None:
        return Finding("module_prefix_off", name, name, PEFT_PREFIX + meant)
    return Finding("module_unknown", name, name, None)


def _tail(module: str) -> str:
    match = _LAYER.search(module)
    return module[match.start() :].lstrip(".") if match else module


def check_targets(
    modules: Mapping[str, LoraModule], spec: LoraSpec, card: BaseModelCard
) -> Iterator[Finding]:
    """The file has to hold exactly the modules that the config's target rules select."""
    known = [name for name in modules if name in card.modules]
    if not known or not spec.target_modules:
        return
    selected = {name: targets(spec, name) for name in card.modules}
    if None in selected.values():
        yield from _check_symmetry(known)
        return
    for name in known:
        if not selected[name]:
            yield Finding("module_not_targeted", name, name, _rule(spec))
    yield from _check_completeness(
        {name for name, is_selected in selected.items() if is_selected}, known=set(known)
    )


def _check_completeness(wanted: Collection[str], *, known: Collection[str]) -> Iterator[Finding]:
    by_layer: dict[int | None, list[str]] = defaultdict(list)
    for name in sorted(wanted):
        by_layer[layer_of(name)].append(name)
    for layer, names in sorted(by_layer.items(), key=lambda item: (item[0] is None, item[0] or 0)):
        absent = [name for name in names if name not in known]
        if layer is not None and absent and len(absent) == len(names):
            yield Finding("layer_missing", f"layer {layer}", 0, len(names))
        else:
            yield from (Finding("module_missing", name) for name in absent)


def _check_symmetry(known: Collection[str]) -> Iterator[Finding]:
    by_layer: dict[int, set[str]] = defaultdict(set)
    for name in known:
        layer = layer_of(name)
        if layer is not None:
            by_layer[layer].add(name.rpartition(".")[2])
    every = set().union(*by_layer.values()) if by_layer else set()
    for layer in range(max(by_layer, default=-1) + 1):
        if by_layer[layer] != every:
            yield Finding("layers_uneven", f"layer {layer}", sorted(by_layer[layer]), sorted(every))


def _rule(spec: LoraSpec) -> object:
    rule = spec.target_modules
    return rule[:200] if isinstance(rule, str) else list(rule[:20])


def check_patterns(modules: Mapping[str, LoraModule], spec: LoraSpec) -> Iterator[Finding]:
    """Every key of a pattern field has to match some module of the file."""
    for field, patterns in (
        ("rank_pattern", spec.rank_pattern),
        ("alpha_pattern", spec.alpha_pattern),
    ):
        for pattern in patterns:
            if modules and not any(matches_suffix(pattern, name) for name in modules):
                yield Finding("pattern_unused", f"{field}[{pattern[:120]}]")
