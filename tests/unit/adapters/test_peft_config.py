"""adapter_config.json -> LoraSpec, against the installed PEFT where it is installed."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from adapters.errors import ConfigInvalid
from adapters.peft_config import (
    FIELD_RULES,
    MAX_CONFIG_BYTES,
    MAX_PATTERNS,
    FieldUse,
    LoraSpec,
    parse_lora_config,
    targets,
)
from bench.fixtures.adapter_files import peft_config

LAYER = "model.layers.3.self_attn.q_proj"


def parse(**fields: Any) -> LoraSpec:
    return parse_lora_config(json.dumps(peft_config(**fields)))


def codes(spec: LoraSpec) -> set[str]:
    return {finding.code for finding in spec.findings}


def test_every_field_of_the_installed_peft_is_classified() -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (extra `eval`)")

    fields = {field.name for field in dataclasses.fields(peft.LoraConfig)}

    assert fields == set(FIELD_RULES)


def test_the_defaults_of_the_installed_peft_are_harmless() -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (extra `eval`)")
    raw = peft.LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM").to_dict()
    raw["target_modules"] = list(raw["target_modules"])

    spec = parse_lora_config(json.dumps(raw))

    assert spec.findings == ()
    assert (spec.rank, spec.alpha) == (8, 8.0)


@pytest.mark.parametrize(
    "name", [name for name, rule in FIELD_RULES.items() if rule.use is FieldUse.REFUSED]
)
def test_a_refused_field_with_a_value_is_a_blocking_finding(name: str) -> None:
    spec = parse(**{name: "pissa" if name == "init_lora_weights" else "something"})

    assert FIELD_RULES[name].code in codes(spec)
    assert all(finding.is_blocking for finding in spec.findings)


@pytest.mark.parametrize(
    "name", [name for name, rule in FIELD_RULES.items() if rule.use is FieldUse.INERT]
)
def test_an_inert_field_changes_nothing(name: str) -> None:
    assert parse(**{name: {"some": "value"}}) == parse()


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal", "lora_ga"])
def test_an_initialisation_that_keeps_the_base_is_taken(init: bool | str) -> None:
    assert parse(init_lora_weights=init).findings == ()


@pytest.mark.parametrize("init", ["pissa", "olora", "corda", "loftq", "unheard_of"])
def test_an_initialisation_that_changes_the_base_is_refused(init: str) -> None:
    assert codes(parse(init_lora_weights=init)) == {"init_changes_base"}


def test_scaling_is_alpha_over_rank() -> None:
    assert parse(rank=8, alpha=32).scaling_of(LAYER) == 4.0


def test_rank_stabilised_scaling_is_alpha_over_the_root_of_rank() -> None:
    spec = parse(rank=16, alpha=32, use_rslora=True)

    assert spec.scaling_of(LAYER) == pytest.approx(32 / math.sqrt(16))


def test_patterns_override_rank_and_alpha_of_matching_modules_alone() -> None:
    spec = parse(rank_pattern={"q_proj": 4}, alpha_pattern={r"layers\.3\..*q_proj": 12})

    assert (spec.rank_of(LAYER), spec.scaling_of(LAYER)) == (4, 3.0)
    assert spec.rank_of("model.layers.3.self_attn.k_proj") == 8
    assert spec.scaling_of("model.layers.2.self_attn.q_proj") == 16 / 4


def test_the_first_matching_pattern_wins() -> None:
    spec = parse(rank_pattern={r".*\.q_proj": 2, LAYER: 6})

    assert spec.rank_of(LAYER) == 2


@pytest.mark.parametrize("module", [LAYER, "q_proj", "model.layers.0.mlp.up_proj", "xq_proj"])
def test_pattern_matching_agrees_with_the_installed_peft(module: str) -> None:
    other = pytest.importorskip("peft.utils.other", reason="PEFT is not installed (extra `eval`)")
    pattern = {"q_proj": 2, r"layers\.[0-4]\.mlp\.up_proj": 3}

    key = other.get_pattern_key(list(pattern), module)

    assert parse(rank_pattern=pattern).rank_of(module) == pattern.get(key, 8)


def test_the_largest_rank_counts_patterns() -> None:
    assert parse(rank=8, rank_pattern={"q_proj": 64}).max_rank == 64


@pytest.mark.parametrize(
    "text",
    [
        b"", b"[]", b"null", b"{", b'{"r": 8, "r": 16}', b'{"lora_alpha": NaN}', b"\xff\xfe",
        b"[" * 100_000, b" " * (MAX_CONFIG_BYTES + 1), b'{"r": ' + b"9" * 5000 + b"}",
    ],
)  # fmt: skip
def test_what_is_no_config_object_is_refused(text: bytes) -> None:
    with pytest.raises(ConfigInvalid):
        parse_lora_config(text)


@pytest.mark.parametrize(
    "fields",
    [
        {"rank": "8"}, {"rank": 8.0}, {"rank": True}, {"alpha": "16"}, {"alpha": None},
        {"use_rslora": 1}, {"targets": [1]}, {"target_modules": 3}, {"rank_pattern": [8]},
        {"rank_pattern": {"q_proj": "8"}}, {"layers_to_transform": ["1"]},
        {"layers_to_transform": True}, {"base": 7}, {"layers_pattern": {}},
    ],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(fields: dict[str, Any]) -> None:
    settings = peft_config() | {
        {"rank": "r", "alpha": "lora_alpha", "targets": "target_modules",
         "base": "base_model_name_or_path"}.get(key, key): value
        for key, value in fields.items()
    }  # fmt: skip

    with pytest.raises(ConfigInvalid):
        parse_lora_config(json.dumps(settings))


@pytest.mark.parametrize("alpha", [0, -16, 1e300])
def test_an_alpha_that_cannot_be_meant_is_a_finding(alpha: float) -> None:
    assert codes(parse(alpha=alpha)) == {"alpha_invalid"}


def test_too_many_patterns_are_refused_before_any_is_matched() -> None:
    patterns = {f"layers.{number}.q_proj": 4 for number in range(MAX_PATTERNS + 1)}

    assert codes(parse(rank_pattern=patterns)) == {"pattern_invalid"}


def test_a_long_value_is_shortened_in_the_finding() -> None:
    (finding,) = parse(use_quantum="x" * 10_000).findings

    assert len(finding.found) < 300


class TestTargets:
    def test_a_list_names_last_parts_or_whole_modules(self) -> None:
        spec = parse(targets=["q_proj", "model.layers.0.mlp.up_proj"])

        assert targets(spec, LAYER) is True
        assert targets(spec, "model.layers.0.mlp.up_proj") is True
        assert targets(spec, "model.layers.1.mlp.up_proj") is False
        assert targets(spec, "model.layers.1.self_attn.xq_proj") is False

    def test_a_text_is_a_pattern_of_the_whole_name(self) -> None:
        spec = parse(targets=r".*\.q_proj")

        assert targets(spec, LAYER) is True
        assert targets(spec, LAYER + "_2") is False

    def test_all_linear_leaves_the_output_head_out(self) -> None:
        spec = parse(targets="all-linear")

        assert targets(spec, LAYER) is True
        assert targets(spec, "lm_head") is False

    def test_excluded_modules_are_left_out(self) -> None:
        assert targets(parse(exclude_modules=["q_proj"]), LAYER) is False
        assert targets(parse(exclude_modules=r".*q_proj"), LAYER) is False

    def test_layers_to_transform_limits_a_list(self) -> None:
        assert targets(parse(layers_to_transform=[3]), LAYER) is True
        assert targets(parse(layers_to_transform=2), LAYER) is False
        assert targets(parse(layers_to_transform=[3], layers_pattern="layers"), LAYER) is True
        assert targets(parse(layers_to_transform=[3], layers_pattern=["h"]), LAYER) is False

    def test_a_costly_pattern_is_not_evaluated(self) -> None:
        spec = parse(targets="(.*)+q_proj")

        assert targets(spec, LAYER) is None
        assert targets(parse(exclude_modules="(.*)+q_proj"), LAYER) is None

    def test_a_costly_layers_pattern_selects_no_layer(self) -> None:
        spec = parse(layers_to_transform=[3], layers_pattern=["(a+)+"])

        assert targets(spec, LAYER) is False

    @pytest.mark.parametrize(
        "fields",
        [
            {"targets": ["q_proj"]},
            {"targets": r".*\.(q|k)_proj"},
            {"exclude_modules": ["q_proj"]},
            {"layers_to_transform": [0, 3]},
            {"layers_to_transform": [1], "layers_pattern": "layers"},
        ],
    )
    def test_the_rule_agrees_with_the_installed_peft(self, fields: dict[str, Any]) -> None:
        peft = pytest.importorskip("peft", reason="PEFT is not installed (extra `eval`)")
        from peft.tuners.tuners_utils import check_target_module_exists

        raw = peft_config(**fields)
        known = {field.name for field in dataclasses.fields(peft.LoraConfig)}
        theirs = peft.LoraConfig(**{key: value for key, value in raw.items() if key in known})
        for layer in range(4):
            for kind in ("q_proj", "k_proj", "o_proj"):
                module = f"model.layers.{layer}.self_attn.{kind}"
                wanted = bool(check_target_module_exists(theirs, module))
                assert targets(parse(**fields), module) is wanted
