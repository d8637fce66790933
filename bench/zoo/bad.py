"""Every kind of bad adapter, and what the pipeline claims about it.

`named_by`: any of these codes names the cause. `alone`: the codes that are claimed without a
training fingerprint and without gold answers; empty: no claim, such a file looks like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from adapters.base_model import BaseModelCard
from bench.fixtures.adapter_files import edit_config
from bench.fixtures.defects import DEFECTS, GATE, Defect
from bench.zoo import bad_exports as exports
from bench.zoo.archives import ARCHIVES, Pack
from bench.zoo.bad_exports import Change
from bench.zoo.sources import Flavour


@dataclass(frozen=True, slots=True, kw_only=True)
class BadKind:
    """One way to be bad. Exactly one of `change`, `pack` and `adapter_name` makes it so."""

    name: str
    named_by: frozenset[str]
    alone: frozenset[str] = frozenset()
    change: Change | None = None
    pack: Pack | None = None
    adapter_name: str | None = None
    source: Flavour = Flavour.PLAIN

    @property
    def needs_fingerprint(self) -> bool:
        """Whether the fingerprint is what names it, so that it is tried with and without one."""
        return self.named_by != self.alone

    @property
    def title(self) -> str:
        """The name as words."""
        return self.name.replace("_", " ")


_LEFT_OUT = frozenset(
    {
        # Harmless: a label, and a pattern that selects nothing. Preflight warns.
        "base_of_another_name",
        "pattern_of_nothing",
        # Only a float16 engine refuses it; the fleets here run in float32 and bfloat16.
        "too_large_for_float16",
    }
)
_BY_TRAINING = {
    "alpha_changed_after_training": {"export_alpha_changed"},
    "alpha_absurd": {"export_alpha_changed"},
    "rslora_flag_changed": {"export_rslora_added"},
    "layers_exchanged": {"export_modules_exchanged"},
    "modules_of_one_shape_exchanged": {"export_modules_exchanged"},
    "sign_of_b_flipped": {"export_b_negated"},
    "huge_but_finite": {"export_values_changed"},
}
_ALONE = {"huge_but_finite": {"not_finite"}}
# The upload form turns these down, before there are files to look at.
_AT_THE_DOOR = {"config_absent": "manifest_invalid", "pickle_instead": "upload_malformed"}


def _of_defect(defect: Defect) -> BadKind:
    if defect.name in _BY_TRAINING:
        return BadKind(
            name=defect.name,
            named_by=frozenset(_BY_TRAINING[defect.name]),
            alone=frozenset(_ALONE.get(defect.name, ())),
            change=defect.apply,
        )
    if defect.code == GATE:
        raise KeyError(f"nothing says what names {defect.name}")
    codes = frozenset({_AT_THE_DOOR.get(defect.name, defect.code)})
    return BadKind(name=defect.name, named_by=codes, alone=codes, change=defect.apply)


def _export(
    name: str,
    change: Change,
    named_by: Iterable[str],
    *,
    alone: Iterable[str] = (),
    source: Flavour = Flavour.PLAIN,
) -> BadKind:
    return BadKind(
        name=name,
        named_by=frozenset(named_by),
        alone=frozenset(alone),
        change=change,
        source=source,
    )


def _unchanged(*_: object) -> None:
    """The files are good; what is wrong is where they come from."""


_EXPORTS = (
    _export(
        "rslora_flag_lost",
        exports.lose_the_rslora_flag,
        {"export_rslora_lost"},
        source=Flavour.RSLORA,
    ),
    _export(
        "alpha_pattern_lost",
        exports.lose_the_alpha_pattern,
        {"export_alpha_changed", "export_scaling_differs"},
        source=Flavour.PATTERNED,
    ),
    _export("module_kind_lost", exports.lose_a_module_kind, {"export_modules_lost"}),
    _export("upper_layers_lost", exports.lose_the_upper_layers, {"export_modules_lost"}),
    _export(
        "layers_shifted_inside_the_base",
        exports.shift_layers_inside,
        {"export_layers_shifted"},
        source=Flavour.PARTIAL,
    ),
    _export("rank_cut_in_half", exports.cut_the_rank, {"export_shape_differs"}),
    _export("earlier_checkpoint", exports.take_an_earlier_checkpoint, {"export_values_changed"}),
    _export("checkpoints_mixed", exports.mix_checkpoints, {"export_values_changed"}),
    _export("one_bit_flipped", exports.flip_one_bit, {"export_values_changed"}),
    _export("one_module_emptied", exports.empty_one_module, {"export_values_changed"}),
    _export("b_almost_zero", exports.fade, {"export_values_changed"}, alone={"inert_or_blind"}),
    _export(
        "base_of_the_same_shape",
        _unchanged,
        {"export_base_differs"},
        source=Flavour.FOREIGN_BASE,
    ),
    _export(
        "files_of_another_run", _unchanged, {"export_values_changed"}, source=Flavour.FOREIGN_RUN
    ),
    _export("fingerprint_cut_off", exports.cut_off_the_fingerprint, {"fingerprint_invalid"}),
    _export(
        "one_layer_too_many",
        exports.add_a_layer,
        {"layer_beyond_base"},
        alone={"layer_beyond_base"},
    ),
)


def _field(name: str, value: object) -> BadKind:
    def change(folder: Path, card: BaseModelCard) -> None:
        edit_config(folder, **{name: value})

    code = "init_changes_base" if name == "init_lora_weights" else "config_field_unsupported"
    suffix = f"_{value}" if isinstance(value, str) else ""
    return _export(f"field_{name}{suffix}", change, {code}, alone={code})


_FIELDS = tuple(
    _field(name, value)
    for name, value in (
        ("fan_in_fan_out", True),
        ("arrow_config", {"top_k": 3}),
        ("monteclora_config", {"n_samples": 4}),
        ("kasa_config", {"beta": 0.1}),
        ("use_qalora", True),
        ("use_bdlora", True),
        ("target_parameters", ["mlp.weight"]),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "corda"),
        ("init_lora_weights", "loftq"),
    )
)
_NAMES = {
    "name_with_a_comma": ("one,two", "invalid_name"),
    "name_with_a_slash": ("one/two", "no_route"),
    "name_with_a_control_character": ("one\x07two", "invalid_name"),
    "name_with_upper_case": ("Support", "invalid_name"),
    "name_that_climbs": ("a..b", "invalid_name"),
    "name_too_long": ("n" * 64, "invalid_name"),
    "name_reserved_text": ("text", "reserved_name"),
    "name_reserved_image": ("image", "reserved_name"),
    "name_reserved_audio": ("audio", "reserved_name"),
    "name_reserved_input": ("input", "reserved_name"),
    "name_reserved_output": ("output", "reserved_name"),
}


def _packed(name: str, pack: Pack, reason: str) -> BadKind:
    codes = frozenset({reason})
    return BadKind(name=name, named_by=codes, alone=codes, pack=pack)


def _named(name: str, text: str, code: str) -> BadKind:
    codes = frozenset({code})
    return BadKind(name=name, named_by=codes, alone=codes, adapter_name=text)


BAD: dict[str, BadKind] = {
    kind.name: kind
    for kind in (
        *(_of_defect(item) for item in DEFECTS.values() if item.name not in _LEFT_OUT),
        *_FIELDS,
        *_EXPORTS,
        *(_packed(name, *item) for name, item in ARCHIVES.items()),
        *(_named(name, *item) for name, item in _NAMES.items()),
    )
}
"""Every kind by name."""
