"""Bytes of a slot, its price in KV tokens, padding, and the latency of too few."""

from __future__ import annotations

import pytest

from serving.capacity.curve import make_curve
from serving.capacity.sizing import (
    CPU_SLOTS_PER_GPU_SLOT,
    RANK_CLASSES,
    TARGET_MODULES,
    TensorParallel,
    added_seconds,
    kv_bytes_per_token,
    kv_tokens_per_slot,
    padding_bytes,
    rank_class,
    slot_bytes,
    slots_that_fit,
)
from serving.engine import profile

# One layer: hidden 64, four heads and two key heads of 16, inner 96.
SHAPES = {
    "model.layers.0.self_attn.q_proj": (64, 64),
    "model.layers.0.self_attn.k_proj": (64, 32),
    "model.layers.0.self_attn.v_proj": (64, 32),
    "model.layers.0.self_attn.o_proj": (64, 64),
    "model.layers.0.mlp.gate_proj": (64, 96),
    "model.layers.0.mlp.up_proj": (64, 96),
    "model.layers.0.mlp.down_proj": (96, 64),
    "lm_head": (64, 1000),
}
ATTENTION, INNER = 128 + 96 + 96, 160 + 160
ALL = ATTENTION + 128 + INNER + 160


def test_a_slot_holds_both_factors_of_each_adapted_module_at_the_largest_rank() -> None:
    assert slot_bytes(SHAPES, max_rank=8, dtype_bytes=2) == ALL * 8 * 2
    assert slot_bytes(SHAPES, max_rank=64, dtype_bytes=4) == ALL * 64 * 4


def test_one_adapted_projection_of_a_packed_module_takes_all_of_it() -> None:
    q_alone = slot_bytes(SHAPES, max_rank=8, dtype_bytes=2, target_modules=["q_proj"])
    up_alone = slot_bytes(SHAPES, max_rank=8, dtype_bytes=2, target_modules=["up_proj"])
    o_alone = slot_bytes(SHAPES, max_rank=8, dtype_bytes=2, target_modules=["o_proj"])

    assert (q_alone, up_alone, o_alone) == (ATTENTION * 16, INNER * 16, 128 * 16)


def test_several_gpus_split_b_of_column_parallel_and_a_of_row_parallel_modules() -> None:
    parallel = TensorParallel(n_gpus=2, n_kv_heads=2)

    column = (64 + 32) + 2 * (64 + 16) + 2 * (64 + 48)
    row = (32 + 64) + (48 + 64)
    assert slot_bytes(SHAPES, max_rank=8, dtype_bytes=2, parallel=parallel) == (column + row) * 16


def test_more_gpus_than_key_heads_hold_one_whole_head_each() -> None:
    parallel = TensorParallel(n_gpus=4, n_kv_heads=2)

    assert kv_bytes_per_token(SHAPES, dtype_bytes=2, parallel=parallel) == 2 * 16 * 2
    assert slot_bytes(
        SHAPES, max_rank=1, dtype_bytes=1, target_modules=["k_proj"], parallel=parallel
    ) == (64 + 16) + 2 * (64 + 16)


def test_fully_sharded_slots_split_both_factors() -> None:
    parallel = TensorParallel(n_gpus=2, n_kv_heads=2, is_fully_sharded=True)

    whole = slot_bytes(SHAPES, max_rank=8, dtype_bytes=2)
    assert slot_bytes(SHAPES, max_rank=8, dtype_bytes=2, parallel=parallel) * 2 == whole


def test_a_token_takes_what_keys_and_values_put_out() -> None:
    assert kv_bytes_per_token(SHAPES, dtype_bytes=2) == (32 + 32) * 2
    assert kv_bytes_per_token({"h.0.attn.qkv_proj": (64, 128)}, dtype_bytes=2) is None


def test_a_slot_costs_tokens_where_a_tokens_bytes_are_known() -> None:
    assert kv_tokens_per_slot(1024, 128) == 8.0
    assert kv_tokens_per_slot(1024, None) is None


def test_half_of_the_memory_is_left_to_the_kv_cache() -> None:
    assert slots_that_fit(1000, bytes_of_slot=49) == 10


@pytest.mark.parametrize(
    ("ranks", "wanted"),
    [([], None), ([1], 1), ([2, 8], 8), ([8, 9], 16), ([512], 512), ([513], None)],
)
def test_the_smallest_rank_class_carries_all_ranks(ranks: list[int], wanted: int | None) -> None:
    assert rank_class(ranks) == wanted


def test_padding_is_what_lower_ranks_leave_empty() -> None:
    assert padding_bytes([16, 16, 64], max_rank=64, bytes_of_slot=6400) == 2 * 48 * 100


def test_added_seconds_are_the_mean_over_all_requests() -> None:
    curve = make_curve({1: 60.0, 4: 30.0}, n_requests=100, n_cold=10, seconds=1.0, n_names=4)
    seconds = {"cache": 0.01, "disk": 0.5}

    added = added_seconds(curve, gpu_slots=2, cpu_slots=8, load_seconds=seconds)

    assert added == pytest.approx(0.4 * 0.01 + 0.1 * 0.5)


def test_added_seconds_need_the_times_of_loads_that_happen_and_of_no_others() -> None:
    cold = make_curve({1: 9.0}, n_requests=10, n_cold=1, seconds=1.0, n_names=1)
    warm = make_curve({1: 10.0}, n_requests=10, n_cold=0, seconds=1.0, n_names=1)
    empty = make_curve({}, n_requests=0, n_cold=0, seconds=1.0, n_names=0)
    unknown = {"cache": None, "disk": None}

    assert added_seconds(cold, gpu_slots=1, cpu_slots=4, load_seconds=unknown) is None
    assert added_seconds(warm, gpu_slots=1, cpu_slots=4, load_seconds=unknown) == 0.0
    assert added_seconds(empty, gpu_slots=1, cpu_slots=4, load_seconds=unknown) is None


def test_the_rules_are_those_of_the_engine_profile() -> None:
    assert RANK_CLASSES == profile.VLLM_RANKS
    assert CPU_SLOTS_PER_GPU_SLOT == profile.CPU_SLOTS_PER_GPU_SLOT
    assert set(profile.EngineProfile(model="any").target_modules) == TARGET_MODULES
