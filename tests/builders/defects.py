"""Known-bad adapters: each takes a good folder of `write_adapter` and spoils it in one known way.

`code` is the preflight finding that names it, or `GATE` when only training evidence or behaviour
can show it: the files alone look like any other adapter's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adapters.base_model import BaseModelCard
from tests.builders.adapter_files import CONFIG, TENSORS, edit_config, edit_tensors, tensor_name
from tests.builders.tensor_files import Array

GATE = "gate"
Tensors = dict[str, Array]


@dataclass(frozen=True)
class Defect:
    """`apply(folder, card)` spoils the folder in place; `dtype` is the engine's when it matters."""

    name: str
    code: str
    apply: Callable[[Path, BaseModelCard], None]
    dtype: str = "float32"


def _config(name: str, code: str, **fields: Any) -> Defect:
    return Defect(name, code, lambda folder, card: edit_config(folder, **fields))


def _tensors(
    name: str, code: str, edit: Callable[[Tensors], Tensors], *, dtype: str = "float32"
) -> Defect:
    return Defect(name, code, lambda folder, card: edit_tensors(folder, edit), dtype)


def _renamed(name: str, code: str, rename: Callable[[str], str]) -> Defect:
    return _tensors(name, code, lambda old: {rename(key): value for key, value in old.items()})


def _added(name: str, code: str, key: str, values: Array) -> Defect:
    return _tensors(name, code, lambda old: old | {key: values})


def _only_b(change: Callable[[Array], Array]) -> Callable[[Tensors], Tensors]:
    return lambda old: {
        key: change(value) if ".lora_B." in key else value for key, value in old.items()
    }


def _with_value(value: float) -> Callable[[Array], Array]:
    def change(values: Array) -> Array:
        values.flat[values.size // 2] = value
        return values

    return change


def _swap_words(one: str, other: str) -> Callable[[str], str]:
    return lambda key: key.replace(one, "\0").replace(other, one).replace("\0", other)


def _shift_layers(folder: Path, card: BaseModelCard) -> None:
    def rename(key: str) -> str:
        head, _, rest = key.partition(".layers.")
        number, _, tail = rest.partition(".")
        return f"{head}.layers.{int(number) + 1}.{tail}"

    edit_tensors(folder, lambda old: {rename(key): value for key, value in old.items()})


def _drop_upper_half(folder: Path, card: BaseModelCard) -> None:
    gone = [f".layers.{layer}." for layer in range(card.n_layers // 2, card.n_layers)]
    edit_tensors(
        folder, lambda old: {k: v for k, v in old.items() if not any(part in k for part in gone)}
    )


def _exchange_ab(old: Tensors) -> Tensors:
    return {_swap_words("lora_A", "lora_B")(key): value for key, value in old.items()}


def _resize(factor: float) -> Callable[[Tensors], Tensors]:
    def scale(key: str, value: Array) -> Array:
        axis = 1 if ".lora_A." in key else 0
        size = int(value.shape[axis] * factor)
        return np.resize(value, (value.shape[0], size) if axis else (size, value.shape[1]))

    return lambda old: {key: scale(key, value) for key, value in old.items()}


def _rank_of_one_half(old: Tensors) -> Tensors:
    key = next(key for key in old if ".lora_B." in key)
    return old | {key: old[key][:, :-1]}


def _bad_bytes(name: str, code: str, change: Callable[[bytes], bytes]) -> Defect:
    def apply(folder: Path, card: BaseModelCard) -> None:
        path = folder / TENSORS
        path.write_bytes(change(path.read_bytes()))

    return Defect(name, code, apply)


def _pickle_instead(folder: Path, card: BaseModelCard) -> None:
    (folder / TENSORS).unlink()
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")


def _break_json(folder: Path, card: BaseModelCard) -> None:
    (folder / CONFIG).write_text((folder / CONFIG).read_text()[:-20])


def _add_output_head(folder: Path, card: BaseModelCard) -> None:
    edit_config(folder, target_modules=["q_proj", "lm_head"])
    ones = np.ones((8, card.hidden_size), np.float32), np.ones((card.vocab_size, 8), np.float32)
    edit_tensors(
        folder,
        lambda old: (
            old
            | {tensor_name("lm_head", side): half for side, half in zip("AB", ones, strict=True)}
        ),
    )


def _drop_one_module(old: Tensors) -> Tensors:
    return {key: value for key, value in old.items() if ".layers.1.mlp.up_proj." not in key}


def _drop_config_keys(folder: Path, card: BaseModelCard) -> None:
    raw = json.loads((folder / CONFIG).read_text())
    del raw["peft_type"]
    (folder / CONFIG).write_text(json.dumps(raw))


_VECTOR = np.ones(8, np.float32)
_MATRIX = np.ones((8, 8), np.float32)
_Q = "base_model.model.model.layers.0.self_attn.q_proj"

_CONFIG_DEFECTS = (
    _config("alpha_changed_after_training", GATE, lora_alpha=64),
    _config("rslora_flag_changed", GATE, use_rslora=True),
    _config("alpha_absurd", "scaling_unusual", lora_alpha=4096),
    _config("alpha_zero", "alpha_invalid", lora_alpha=0),
    _config("rank_not_of_the_tensors", "rank_differs", r=4),
    _config("rank_zero", "rank_invalid", r=0),
    _config("rank_above_the_slots", "rank_above_limit", r=512),
    _config("stale_rank_pattern", "rank_differs", rank_pattern={"q_proj": 4}),
    _config("pattern_that_backtracks", "pattern_invalid", rank_pattern={"(a+)+b": 4}),
    _config("pattern_of_nothing", "pattern_unused", alpha_pattern={"c_attn": 4}),
    _config("ia3_config", "peft_type_unsupported", peft_type="IA3"),
    Defect("peft_type_absent", "peft_type_unsupported", _drop_config_keys),
    _config("classifier", "task_type_unsupported", task_type="SEQ_CLS"),
    _config("dora", "dora_unsupported", use_dora=True),
    _config("bias_all", "bias_unsupported", bias="all"),
    _config("lora_bias", "lora_bias_unsupported", lora_bias=True),
    _config("modules_to_save", "modules_to_save_unsupported", modules_to_save=["lm_head"]),
    _config("pissa", "init_changes_base", init_lora_weights="pissa_niter_4"),
    _config("alora", "alora_unsupported", alora_invocation_tokens=[1, 2]),
    _config("trained_tokens", "token_training_unsupported", trainable_token_indices=[3]),
    _config("layer_replication", "config_field_unsupported", layer_replication=[[0, 2]]),
    _config("tied_weights", "config_field_unsupported", ensure_weight_tying=True),
    _config("field_of_the_future", "config_field_unknown", use_quantum=True),
    _config("targets_absent", "target_modules_absent", target_modules=None),
    _config("targets_narrowed", "module_not_targeted", target_modules=["q_proj"]),
    _config("base_of_another_name", "base_name_differs", base_model_name_or_path="org/Other-8B"),
    Defect("config_cut_off", "config_unreadable", _break_json),
    Defect("config_absent", "config_missing", lambda folder, card: (folder / CONFIG).unlink()),
)

_NAME_DEFECTS = (
    _renamed(
        "prefix_one_level_short",
        "module_prefix_off",
        lambda k: k.replace("model.model.", "model.", 1),
    ),
    _renamed(
        "prefix_one_level_long",
        "module_prefix_off",
        lambda k: k.replace(".layers.", ".model.layers."),
    ),
    _renamed(
        "peft_prefix_lost", "module_prefix_off", lambda k: k.removeprefix("base_model.model.")
    ),
    _renamed(
        "adapter_name_in_keys",
        "tensor_unsupported",
        lambda k: k.replace(".weight", ".default.weight"),
    ),
    _renamed("modules_of_another_family", "module_unknown", lambda k: k.replace("q_proj", "query")),
    Defect("half_of_the_layers_missing", "layer_missing", _drop_upper_half),
    Defect("layers_shifted_by_one", "layer_beyond_base", _shift_layers),
    _renamed("layers_exchanged", GATE, _swap_words(".layers.0.", ".layers.1.")),
    _renamed("modules_of_one_shape_exchanged", GATE, _swap_words("gate_proj", "up_proj")),
    _tensors("one_module_missing", "module_missing", _drop_one_module),
    _tensors("one_half_missing", "pair_incomplete", lambda old: dict(list(old.items())[1:])),
    _tensors("no_tensors", "tensors_empty", lambda old: {}),
    Defect("output_head_adapted", "target_outside_engine", _add_output_head),
)

_TENSOR_DEFECTS = (
    _tensors("a_and_b_swapped", "ab_swapped", _exchange_ab),
    _tensors("transposed", "tensor_transposed", lambda old: {k: v.T for k, v in old.items()}),
    _tensors("ranks_disagree", "ranks_disagree", _rank_of_one_half),
    _tensors("smaller_base", "base_smaller", _resize(0.5)),
    _tensors("larger_base", "base_larger", _resize(2)),
    _tensors("vectors", "tensor_not_matrix", lambda old: {k: v.ravel() for k, v in old.items()}),
    _tensors(
        "whole_numbers",
        "dtype_unsupported",
        lambda old: {k: v.astype(np.int32) for k, v in old.items()},
    ),
    _added("dora_magnitude", "magnitude_tensor", f"{_Q}.lora_magnitude_vector", _VECTOR),
    _added("bias_in_the_file", "bias_tensor", f"{_Q}.lora_B.bias", _VECTOR),
    _added("base_layer_in_the_file", "base_layer_tensor", f"{_Q}.base_layer.weight", _MATRIX),
    _added(
        "embeddings_in_the_file",
        "embedding_tensor",
        "base_model.model.model.embed_tokens.weight",
        _MATRIX,
    ),
    _tensors("not_a_number", "value_not_finite", _only_b(_with_value(float("nan")))),
    _tensors("infinity", "value_not_finite", _only_b(_with_value(float("inf")))),
    _tensors(
        "too_large_for_float16", "value_overflows", _only_b(_with_value(7e4)), dtype="float16"
    ),
    _tensors("huge_but_finite", GATE, _only_b(lambda b: b * np.float32(1e30))),
    _tensors("b_all_zero", "adapter_inert", _only_b(np.zeros_like)),
    _tensors("sign_of_b_flipped", GATE, _only_b(lambda b: -b)),
    _bad_bytes("file_cut_off", "tensors_unreadable", lambda data: data[: len(data) // 2]),
    _bad_bytes("header_length_lies", "tensors_unreadable", lambda data: b"\xff" * 8 + data[8:]),
    _bad_bytes("header_corrupt", "tensors_unreadable", lambda data: data[:9] + b"\0\0" + data[11:]),
    Defect("pickle_instead", "pickled_weights", _pickle_instead),
)

DEFECTS: dict[str, Defect] = {
    defect.name: defect for defect in (*_CONFIG_DEFECTS, *_NAME_DEFECTS, *_TENSOR_DEFECTS)
}
"""Every known-bad adapter by name; all work for any Llama-like card of two layers or more."""
