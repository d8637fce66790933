"""A profile is strict: what it does not understand it refuses, with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving.engine.profile import EngineProfile, ProfileInvalid, parse_profile, read_profile
from serving.settings import EngineSettings


def refused(**values: Any) -> ProfileInvalid:
    with pytest.raises(ProfileInvalid) as caught:
        parse_profile({"model": "m", **values})
    return caught.value


def test_a_model_alone_is_a_profile() -> None:
    profile = parse_profile({"model": "m"})

    assert (profile.gpu_slots, profile.cpu_slots, profile.max_rank) == (8, 64, 16)
    assert profile.enable_chunked_prefill
    assert "lm_head" not in profile.target_modules


def test_without_a_model_there_is_no_profile() -> None:
    with pytest.raises(ProfileInvalid, match="model: is missing"):
        parse_profile({})


def test_an_unknown_field_is_refused_and_close_names_are_told() -> None:
    error = refused(gpu_slot=3)

    assert error.field == "gpu_slot"
    assert "did you mean gpu_slots" in error.problem


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gpu_slots", "8"),
        ("gpu_slots", True),
        ("gpu_slots", 0),
        ("max_rank", 12),
        ("max_rank", None),
        ("dtype", "int8"),
        ("target_modules", "q_proj"),
        ("target_modules", []),
        ("enable_chunked_prefill", "yes"),
        ("max_model_len", -1),
        ("kv_cache_gib", 1.5),
        ("shutdown_timeout_seconds", -1),
        ("chat_template", 3),
    ],
)
def test_an_impossible_value_is_refused_by_its_field(field: str, value: Any) -> None:
    assert refused(**{field: value}).field == field


def test_fewer_than_four_places_a_slot_are_refused_unless_waived() -> None:
    assert refused(gpu_slots=3, cpu_slots=6).field == "cpu_slots"
    assert (
        parse_profile(
            {"model": "m", "gpu_slots": 3, "cpu_slots": 6, "waived": ["cpu_slots"]}
        ).cpu_slots
        == 6
    )


def test_many_slots_bring_their_places_along() -> None:
    assert parse_profile({"model": "m", "gpu_slots": 32}).cpu_slots == 128
    assert parse_profile({"model": "m", "gpu_slots": 4}).cpu_slots == 64


def test_a_long_prompt_gets_a_quarter_of_the_budget_unless_told() -> None:
    assert EngineProfile(model="m").prefill_threshold is None
    assert EngineProfile(model="m", max_num_batched_tokens=512).prefill_threshold == 128
    assert refused(max_num_batched_tokens=128, long_prefill_token_threshold=256)


def test_without_chunked_prefill_the_longest_prompt_must_fit() -> None:
    error = refused(enable_chunked_prefill=False, max_model_len=2048, max_num_batched_tokens=512)

    assert error.field == "max_num_batched_tokens"


@pytest.mark.parametrize(
    "argument",
    ["--lora-modules=x=y", "--api-key=k", "--middleware=a.b", "--enable-lora", "seed=1",
     "--tensor-paralel-size=2"],
)  # fmt: skip
def test_an_extra_argument_that_is_ours_or_unknown_is_refused(argument: str) -> None:
    assert refused(extra_arguments=[argument]).field == "extra_arguments"


def test_a_misspelt_extra_argument_is_told_its_neighbour() -> None:
    assert "tensor-parallel-size" in refused(extra_arguments=["--tensor-paralel-size=2"]).problem


def test_settings_win_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text("model: from-file\ngpu_slots: 4\ncpu_slots: 16\nmax_num_seqs: 32\n")

    profile = read_profile(EngineSettings(profile=file, model="given", gpu_slots=2))

    assert (profile.model, profile.gpu_slots, profile.cpu_slots) == ("given", 2, 16)
    assert profile.max_num_seqs == 32


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [\n"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "profile.yaml"
    file.write_text(text)

    with pytest.raises(ProfileInvalid):
        read_profile(EngineSettings(profile=file, model="m"))


def test_a_missing_file_is_refused_and_an_empty_one_is_fine(tmp_path: Path) -> None:
    with pytest.raises(ProfileInvalid):
        read_profile(EngineSettings(profile=tmp_path / "none.yaml", model="m"))
    (tmp_path / "empty.yaml").write_text("")
    assert read_profile(EngineSettings(profile=tmp_path / "empty.yaml", model="m")).model == "m"
