"""The machine files for a card of 80 GB: strictly read, and by our own sizing they fit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.gpu.__main__ import ENGINES, HERE, machine_file, plans, render_table
from bench.gpu.memory import BASES, CARD_BYTES, Base, DoesNotFit, Engines, plan_memory, share_of
from bench.machine import Machine, read_machine
from bench.scenario_list import list_scenarios
from serving.capacity.sizing import kv_bytes_per_token, slot_bytes

QWEN = BASES["Qwen/Qwen2.5-7B-Instruct"]
NOTHING = Machine("", "", {}, (1,), 1, 1, 1)


def machine(scenario: str) -> Machine:
    return read_machine(machine_file(scenario), NOTHING)


def test_there_is_a_file_for_each_scenario_and_none_beside() -> None:
    assert {path.stem for path in HERE.glob("*.yaml")} == set(ENGINES)


def test_the_scenarios_exist() -> None:
    known = {scenario.name for scenario in list_scenarios()}
    assert set(ENGINES) <= known


@pytest.mark.parametrize("scenario", ENGINES)
def test_a_file_is_a_machine_with_a_profile_for_a_gpu(scenario: str) -> None:
    profile = machine(scenario).engine_profile()

    assert (profile.kv_cache_gib, profile.enforce_eager) == (None, False)
    assert profile.max_rank >= max(machine(scenario).ranks)
    assert profile.model in BASES


@pytest.mark.parametrize("scenario", ENGINES)
def test_its_engines_fit_the_card_with_room_for_the_whole_load(scenario: str) -> None:
    plan = plans()[scenario]

    assert plan.card <= CARD_BYTES
    assert plan.kv_tokens >= plan.needed_tokens
    assert plan.host < 16 * 1000**3


def test_the_base_is_as_large_as_it_is_published() -> None:
    # 7.62 billion weights, 28 layers of 4 KV heads of 128; helm's profile says 2.52 M a rank.
    assert QWEN.weight_bytes / 2 == pytest.approx(7.62e9, rel=0.002)
    assert kv_bytes_per_token(QWEN.shapes(), dtype_bytes=2) == 28 * 2 * 4 * 128 * 2
    assert slot_bytes(QWEN.shapes(), max_rank=1, dtype_bytes=1) == pytest.approx(2.52e6, rel=0.002)


def test_tied_embeddings_are_counted_once() -> None:
    tied = replace(QWEN, is_tied=True)

    assert QWEN.weight_bytes - tied.weight_bytes == 2 * 152064 * 3584


def test_one_engine_too_many_does_not_fit() -> None:
    one = machine("multi_lora_or_standalone")

    with pytest.raises(DoesNotFit, match="5 engines"):
        plan_memory(one, one.engine_profile(), QWEN, Engines(1, n_bare=4))


def test_a_load_larger_than_the_kv_cache_does_not_fit() -> None:
    one = replace(machine("multi_lora_or_standalone"), concurrency=200)

    with pytest.raises(DoesNotFit, match="KV cache"):
        plan_memory(one, one.engine_profile(), QWEN, Engines(1))


def test_a_larger_base_does_not_fit_a_quarter_of_the_card() -> None:
    large = Base(5120, 27648, 64, 40, 8, 128, 152064)  # 32 billion weights
    one = machine("multi_lora_or_standalone")

    with pytest.raises(DoesNotFit, match="KV cache has -"):
        plan_memory(one, one.engine_profile(), large, Engines(1))


def test_a_profile_must_say_its_share() -> None:
    profile = machine("cold_load").engine_profile(extra_arguments=())

    with pytest.raises(DoesNotFit, match="gpu-memory-utilization"):
        share_of(profile)


def test_the_page_shows_the_counted_memory() -> None:
    assert render_table() in (HERE / "README.md").read_text()
