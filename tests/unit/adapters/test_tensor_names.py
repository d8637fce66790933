"""What tensor names mean."""

from __future__ import annotations

import pytest

from adapters.tensor_names import LoraTensorName, classify_other, group_modules, parse_lora_name

MODULE = "model.layers.0.self_attn.q_proj"


def test_a_lora_matrix_is_parsed_into_module_and_side() -> None:
    parsed = parse_lora_name(f"base_model.model.{MODULE}.lora_A.weight")

    assert parsed == LoraTensorName(MODULE, "A", has_prefix=True)


def test_a_name_without_the_peft_prefix_is_told() -> None:
    parsed = parse_lora_name(f"{MODULE}.lora_B.weight")

    assert parsed == LoraTensorName(MODULE, "B", has_prefix=False)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        (f"{MODULE}.lora_magnitude_vector", "magnitude_tensor"),
        (f"{MODULE}.lora_B.bias", "bias_tensor"),
        (f"{MODULE}.bias", "bias_tensor"),
        (f"{MODULE}.base_layer.weight", "base_layer_tensor"),
        (f"{MODULE}.base_layer.lora_A.weight", "base_layer_tensor"),
        ("model.embed_tokens.lora_embedding_A", "embedding_tensor"),
        ("lm_head.weight", "embedding_tensor"),
        (f"{MODULE}.lora_A.default.weight", "tensor_unsupported"),
        (".lora_A.weight", "tensor_unsupported"),
        ("base_model.model..lora_A.weight", "tensor_unsupported"),
        ("lora_A.weight", "tensor_unsupported"),
    ],
)
def test_any_other_tensor_has_a_finding_of_its_kind(name: str, code: str) -> None:
    assert parse_lora_name(name) is None
    assert classify_other(name) == code


def test_pairs_are_grouped_and_the_rest_is_kept_apart() -> None:
    modules, others = group_modules(
        [f"base_model.model.{MODULE}.lora_{side}.weight" for side in "BA"] + ["lm_head.weight"]
    )

    assert list(modules) == [MODULE]
    assert set(modules[MODULE].halves) == {"A", "B"}
    assert modules[MODULE].kind == "q_proj"
    assert others == ("lm_head.weight",)


def test_one_half_under_two_names_is_not_taken_twice() -> None:
    twice = [f"base_model.model.{MODULE}.lora_A.weight", f"{MODULE}.lora_A.weight"]

    modules, others = group_modules(twice)

    assert modules[MODULE].halves == {"A": twice[0]}
    assert others == (twice[1],)
