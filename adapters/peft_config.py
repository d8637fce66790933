"""adapter_config.json -> LoraSpec. PEFT's names (`r`, ...) exist only here.

Every field of PEFT 0.21's LoraConfig is in one table: honoured (its meaning is served), inert (it
cannot change what a trained adapter computes), or refused unless it has a harmless value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from adapters.errors import ConfigInvalid
from adapters.findings import Finding
from adapters.patterns import MAX_MATCH_COST, first_matching, match_cost, pattern_problem

MAX_CONFIG_BYTES = 1024**2
MAX_PATTERNS = 256
"""Keys of one pattern field. Python's regex cache holds 512; beyond it each match compiles anew."""


class FieldUse(StrEnum):
    """What happens to one PEFT field."""

    HONOURED = "honoured"
    INERT = "inert"
    REFUSED = "refused unless harmless"


def _is_empty(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, (list, dict, str)) and not value)


def _keeps_base(init: Any) -> bool:
    # These only set the adapter's first values, so a saved adapter loads as plain LoRA; the other
    # named ones change the base weights when PEFT loads them.
    harmless = {"gaussian", "eva", "orthogonal", "mica", "lora_ga"}
    return not isinstance(init, str) or init.lower() in harmless


@dataclass(frozen=True, slots=True)
class FieldRule:
    """How one PEFT field is treated; `code` and `is_harmless` matter for refused ones alone."""

    use: FieldUse
    code: str = "config_field_unsupported"
    is_harmless: Callable[[Any], bool] = _is_empty


_HONOURED = FieldRule(FieldUse.HONOURED)
_INERT = FieldRule(FieldUse.INERT)
_UNSUPPORTED = FieldRule(FieldUse.REFUSED)


def _refused(code: str, is_harmless: Callable[[Any], bool] = _is_empty) -> FieldRule:
    return FieldRule(FieldUse.REFUSED, code, is_harmless)


FIELD_RULES: Mapping[str, FieldRule] = {
    "r": _HONOURED,
    "lora_alpha": _HONOURED,
    "use_rslora": _HONOURED,
    "rank_pattern": _HONOURED,
    "alpha_pattern": _HONOURED,
    "target_modules": _HONOURED,
    "exclude_modules": _HONOURED,
    "layers_to_transform": _HONOURED,
    "layers_pattern": _HONOURED,
    "base_model_name_or_path": _HONOURED,
    "revision": _HONOURED,
    "peft_type": _refused("peft_type_unsupported", lambda value: value == "LORA"),
    "task_type": _refused("task_type_unsupported", lambda value: value in (None, "CAUSAL_LM")),
    "bias": _refused("bias_unsupported", lambda value: value in (None, "none")),
    "use_dora": _refused("dora_unsupported"),
    "lora_bias": _refused("lora_bias_unsupported"),
    "modules_to_save": _refused("modules_to_save_unsupported"),
    "init_lora_weights": _refused("init_changes_base", _keeps_base),
    "alora_invocation_tokens": _refused("alora_unsupported"),
    "trainable_token_indices": _refused("token_training_unsupported"),
    "fan_in_fan_out": _UNSUPPORTED,
    "megatron_config": _UNSUPPORTED,
    "use_qalora": _UNSUPPORTED,
    "use_bdlora": _UNSUPPORTED,
    "layer_replication": _UNSUPPORTED,
    "target_parameters": _UNSUPPORTED,
    "ensure_weight_tying": _UNSUPPORTED,
    "arrow_config": _UNSUPPORTED,
    "kasa_config": _UNSUPPORTED,
    "monteclora_config": _UNSUPPORTED,
    # Its backward pass alone differs, but PEFT then expects buffers in the file.
    "velora_config": _UNSUPPORTED,
    "auto_mapping": _INERT,
    "peft_version": _INERT,
    "inference_mode": _INERT,
    "lora_dropout": _INERT,
    "megatron_core": _INERT,
    "qalora_group_size": _INERT,
    "runtime_config": _INERT,
    # Settings of initialisations, which `init_lora_weights` switches on.
    "loftq_config": _INERT,
    "eva_config": _INERT,
    "corda_config": _INERT,
    "lora_ga_config": _INERT,
}
"""Every field of PEFT's LoraConfig; a test compares it with the installed PEFT."""


@dataclass(frozen=True, slots=True)
class LoraSpec:
    """What the config says about one adapter. `findings` were made while reading it.

    Module names are those of the base (`model.layers.0.self_attn.q_proj`).
    """

    rank: int
    alpha: float
    use_rslora: bool = False
    rank_pattern: Mapping[str, int] = field(default_factory=dict)
    alpha_pattern: Mapping[str, float] = field(default_factory=dict)
    target_modules: tuple[str, ...] | str = ()
    exclude_modules: tuple[str, ...] | str = ()
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    base_model_name: str | None = None
    base_revision: str | None = None
    findings: tuple[Finding, ...] = ()

    def rank_of(self, module: str) -> int:
        """Rank of one module, patterns applied."""
        key = first_matching(tuple(self.rank_pattern), module)
        return self.rank if key is None else self.rank_pattern[key]

    def alpha_of(self, module: str) -> float:
        """Alpha of one module, patterns applied."""
        key = first_matching(tuple(self.alpha_pattern), module)
        return self.alpha if key is None else self.alpha_pattern[key]

    def scaling_of(self, module: str) -> float:
        """Factor of B x A for one module: alpha / rank, or alpha / sqrt(rank) with rsLoRA."""
        rank = self.rank_of(module)
        return self.alpha_of(module) / (math.sqrt(rank) if self.use_rslora else rank)

    @property
    def max_rank(self) -> int:
        """Largest rank of any module that the config can give."""
        return max([self.rank, *self.rank_pattern.values()])


def parse_lora_config(data: bytes | str) -> LoraSpec:
    """Read the text of adapter_config.json.

    Raises:
        ConfigInvalid: not one JSON object, or a field of another type; whatever else is wrong is
            in the findings of the spec.
    """
    raw = _load_object(data)
    read = _Reader(raw)
    spec = LoraSpec(
        rank=read.rank("r", raw.get("r", 8)),
        alpha=read.alpha("lora_alpha", raw.get("lora_alpha", 8)),
        use_rslora=read.flag("use_rslora"),
        rank_pattern=read.pattern("rank_pattern", read.rank),
        alpha_pattern=read.pattern("alpha_pattern", read.alpha),
        target_modules=read.names_or_regex("target_modules"),
        exclude_modules=read.names_or_regex("exclude_modules"),
        layers_to_transform=read.layers("layers_to_transform"),
        layers_pattern=read.names("layers_pattern"),
        base_model_name=read.text("base_model_name_or_path"),
        base_revision=read.text("revision"),
        findings=(*_field_findings(raw), *read.findings),
    )
    if not spec.target_modules:
        absent = Finding("target_modules_absent", "target_modules", raw.get("target_modules"))
        return _with_findings(spec, (*spec.findings, absent))
    return spec


def _with_findings(spec: LoraSpec, findings: tuple[Finding, ...]) -> LoraSpec:
    return replace(spec, findings=findings)


def _field_findings(raw: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in raw.items():
        rule = FIELD_RULES.get(name)
        if rule is None:
            code = "config_field_unknown_empty" if _is_empty(value) else "config_field_unknown"
            yield Finding(code, name[:200], _short(value))
        elif rule.use is FieldUse.REFUSED and not rule.is_harmless(value):
            yield Finding(rule.code, name, _short(value))
    if "peft_type" not in raw:
        yield Finding("peft_type_unsupported", "peft_type", None, "LORA")


def _short(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 200 else text[:200] + "..."


def _load_object(data: bytes | str) -> dict[str, Any]:
    if len(data) > MAX_CONFIG_BYTES:
        raise ConfigInvalid(field="", problem=f"larger than {MAX_CONFIG_BYTES} bytes")
    try:
        raw = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise ConfigInvalid(field="", problem=f"not JSON: {exc}") from exc
    if not isinstance(raw, dict):
        raise ConfigInvalid(field="", problem="not a JSON object")
    return raw


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


class _Reader:
    """Typed reads of one config; collects what is wrong but readable."""

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self.findings: list[Finding] = []

    def rank(self, where: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigInvalid(field=where, problem=f"{_short(value)!r} is no whole number")
        if value < 1:
            self.findings.append(Finding("rank_invalid", where, value, "1 or more"))
            return 1
        return value

    def alpha(self, where: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigInvalid(field=where, problem=f"{_short(value)!r} is no number")
        if not 0 < value < 1e30:
            self.findings.append(Finding("alpha_invalid", where, _short(str(value)), "above 0"))
            return 1.0
        return float(value)

    def flag(self, name: str) -> bool:
        value = self._raw.get(name)
        if value is not None and not isinstance(value, bool):
            raise ConfigInvalid(field=name, problem=f"{_short(value)!r} is neither true nor false")
        return bool(value)

    def text(self, name: str) -> str | None:
        value = self._raw.get(name)
        if value is not None and not isinstance(value, str):
            raise ConfigInvalid(field=name, problem=f"{_short(value)!r} is no text")
        return value or None

    def names(self, name: str) -> tuple[str, ...]:
        value = self._raw.get(name)
        if value is None:
            return ()
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise ConfigInvalid(field=name, problem="neither a text nor a list of texts")
        return tuple(item for item in values if item)

    def names_or_regex(self, name: str) -> tuple[str, ...] | str:
        value = self._raw.get(name)
        if not isinstance(value, str):
            return self.names(name)
        problem = pattern_problem(value)
        if problem:
            self.findings.append(Finding("target_pattern_unchecked", name, _short(value), problem))
        return value

    def layers(self, name: str) -> tuple[int, ...] | None:
        value = self._raw.get(name)
        values = [value] if isinstance(value, int) and not isinstance(value, bool) else value
        if values is None or values == []:
            return None
        if not isinstance(values, list) or not all(type(item) is int for item in values):
            raise ConfigInvalid(field=name, problem="neither a whole number nor a list of them")
        return tuple(values)

    def pattern(self, name: str, read: Callable[[str, Any], Any]) -> dict[str, Any]:
        value = self._raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ConfigInvalid(field=name, problem="no object")
        if len(value) > MAX_PATTERNS or sum(map(match_cost, value)) > MAX_MATCH_COST:
            self.findings.append(Finding("pattern_invalid", name, len(value), MAX_PATTERNS))
            return {}
        result = {}
        for key, item in value.items():
            where = f"{name}[{key[:120]}]"
            problem = pattern_problem(key)
            if problem:
                self.findings.append(Finding("pattern_invalid", where, _short(key), problem))
            else:
                result[key] = read(where, item)
        return result


def targets(spec: LoraSpec, module: str) -> bool | None:
    """Whether the config's rules select a base module; None when a pattern is too costly to say.

    Source of the rule: peft.tuners.tuners_utils.check_target_module_exists, PEFT 0.21.
    """
    excluded = _selects(spec.exclude_modules, module) if spec.exclude_modules else False
    if excluded is None or excluded:
        return None if excluded is None else False
    selected = _selects(spec.target_modules, module)
    if not selected or isinstance(spec.target_modules, str) or module in spec.target_modules:
        return selected
    return spec.layers_to_transform is None or _layer_of(spec, module) in spec.layers_to_transform


def _selects(rule: tuple[str, ...] | str, module: str) -> bool | None:
    if isinstance(rule, str):
        if rule.lower() == "all-linear":
            return module != "lm_head"
        return None if pattern_problem(rule) else re.fullmatch(rule, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in rule)


def _layer_of(spec: LoraSpec, module: str) -> int | None:
    for pattern in spec.layers_pattern or (r"[^.]*",):
        if pattern_problem(pattern):
            continue
        # The first numbered part is the layer; later ones are experts and the like.
        match = re.match(rf"(?:^|.*?\.){pattern}\.(?P<layer>\d+)\.", module)
        if match:
            return int(match["layer"])
    return None
