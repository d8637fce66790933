"""Settings, the profiles they become, and those that are not worth a start."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serving.engine.profile import EngineProfile
from serving.tuning.space import (
    Load,
    Setting,
    Space,
    choose_candidates,
    default_space,
    effect_of,
    reference_of,
)

PROFILE = EngineProfile(model="base", max_model_len=2048)
LOAD = Load(longest_prompt=1500, n_adapters=4, n_requests=60, longest_request=1524)
START = Setting.of(PROFILE)


def test_a_setting_is_put_into_a_profile_and_read_from_it_again() -> None:
    setting = Setting(
        max_num_batched_tokens=256,
        long_prefill_token_threshold=64,
        max_num_seqs=32,
        gpu_slots=4,
        gpu_memory_share=0.85,
    )

    assert Setting.of(setting.apply(PROFILE)) == setting


def test_more_slots_take_their_places_in_cpu_memory_along() -> None:
    assert replace(START, gpu_slots=32).apply(PROFILE).cpu_slots == 128


def test_a_memory_share_replaces_the_one_that_the_profile_has() -> None:
    profile = replace(PROFILE, extra_arguments=("--seed=1", "--gpu-memory-utilization=0.9"))

    changed = replace(START, gpu_memory_share=0.8).apply(profile)

    assert changed.extra_arguments == ("--seed=1", "--gpu-memory-utilization=0.8")


def test_the_reference_holds_every_prompt_whole() -> None:
    reference = reference_of(START, PROFILE, LOAD)

    profile = reference.apply(PROFILE)

    assert not profile.enable_chunked_prefill
    assert (profile.max_num_batched_tokens or 0) >= 2048
    assert (profile.prefill_threshold or 0) >= LOAD.longest_prompt


def test_what_acts_alike_under_the_load_is_started_once() -> None:
    space = Space(
        {
            "max_num_batched_tokens": (2048,),
            "long_prefill_token_threshold": (0.75, 1.0),
            "max_num_seqs": (64, 128),
            "gpu_slots": (4, 8),
        }
    )

    kept, left = choose_candidates(space.settings(START), START, PROFILE, LOAD)

    assert len(kept) == 1
    assert len(left) == 7
    assert all("acts as" in one.reason for one in left)


def test_what_no_engine_takes_is_left_out_with_the_reason() -> None:
    broken = Setting(max_num_batched_tokens=64, long_prefill_token_threshold=128)

    kept, left = choose_candidates([broken], START, PROFILE, LOAD)

    assert kept == ()
    assert "more than the budget" in left[0].reason


def test_more_sequences_than_tokens_of_a_step_are_left_out() -> None:
    wide = Setting(max_num_batched_tokens=32, long_prefill_token_threshold=8, max_num_seqs=40)

    kept, left = choose_candidates([wide], START, PROFILE, LOAD)

    assert kept == ()
    assert "max_num_seqs" in left[0].reason


def test_a_threshold_stays_within_the_length_that_vllm_takes() -> None:
    large = Setting(max_num_batched_tokens=8192, long_prefill_token_threshold=8192)

    (kept,), _ = choose_candidates([large], START, PROFILE, LOAD)

    assert kept.long_prefill_token_threshold == PROFILE.max_model_len


def test_a_setting_that_acts_as_the_start_is_no_candidate() -> None:
    same = replace(START, max_num_seqs=LOAD.n_requests)

    kept, left = choose_candidates([same, START], START, PROFILE, LOAD)

    assert kept == ()
    assert [one.setting for one in left] == [same]


def test_fewer_sequences_than_requests_do_act() -> None:
    assert effect_of(replace(START, max_num_seqs=16), LOAD) != effect_of(START, LOAD)


def test_the_memory_share_is_searched_on_a_gpu_only() -> None:
    on_cpu = default_space(PROFILE, is_cpu=True, load=LOAD).values
    on_gpu = default_space(PROFILE, is_cpu=False, load=LOAD).values

    assert "gpu_memory_share" not in on_cpu
    assert max(on_gpu["gpu_memory_share"]) < 1


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ("max_num_batched_tokens", (0.0,)),
        ("long_prefill_token_threshold", (1.5,)),
        ("gpu_memory_share", (2.0,)),
        ("colour", (1.0,)),
    ],
)
def test_an_axis_takes_only_values_that_mean_something(
    axis: str, values: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=axis):
        Space({axis: values})


def test_settings_have_names_of_their_own() -> None:
    space = default_space(PROFILE, is_cpu=False, load=LOAD)

    names = [setting.name for setting in space.settings(START)]

    assert len(set(names)) == len(names)
