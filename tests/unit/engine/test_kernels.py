"""The grouped LoRA product equals the naive definition, row by row."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the engine extra (torch, vLLM) is not installed")
kernels = pytest.importorskip(
    "serving.engine.compat.kernels", reason="the engine extra (torch, vLLM) is not installed"
)

N_SLOTS, RANK, N_IN, SIZES = 4, 8, 48, (32, 16)


def weights(seed: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    torch.manual_seed(seed)
    a = tuple(torch.randn(N_SLOTS, 1, RANK, N_IN) for _ in SIZES)
    b = tuple(torch.randn(N_SLOTS, 1, size, RANK) for size in SIZES)
    return a, b


def wrapper_for(slots: list[int]) -> Any:
    wrapper = kernels.GroupedPunicaWrapper(256, 256, "cpu")
    ids = [slot + 10 for slot in range(N_SLOTS)]
    mapping = SimpleNamespace(
        index_mapping=tuple(slot + 10 if slot >= 0 else 0 for slot in slots),
        prompt_mapping=tuple(slot + 10 if slot >= 0 else 0 for slot in slots),
        is_prefill=True,
    )
    wrapper.update_metadata(mapping, ids, N_SLOTS + 1, 1000)
    return wrapper


def naive(x: Any, y: Any, a: Any, b: Any, slots: list[int]) -> Any:
    result, offset = y.clone(), 0
    for slice_a, slice_b, size in zip(a, b, SIZES, strict=True):
        for row, slot in enumerate(slots):
            if slot >= 0:
                delta = slice_b[slot, 0] @ (slice_a[slot, 0] @ x[row])
                result[row, offset : offset + size] += delta
        offset += size
    return result


@pytest.mark.parametrize("seed", range(12))
def test_each_row_gets_its_own_adapters_product_and_base_rows_get_nothing(seed: int) -> None:
    draw = random.Random(seed)
    n_rows = draw.choice([1, 3, 8, 40, 128])
    slots = [draw.randrange(-1, draw.randint(0, N_SLOTS - 1) + 1) for _ in range(n_rows)]
    a, b = weights(seed)
    x, y = torch.randn(n_rows, N_IN), torch.randn(n_rows, sum(SIZES))
    wanted = naive(x, y, a, b, slots)

    wrapper_for(slots).add_lora_linear(y, x, a, b, 1.0, SIZES)

    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_scale_counts_once_and_base_rows_stay_as_they_are_to_the_bit(dtype: Any) -> None:
    a, b = weights(3)
    a, b = (tuple(tensor.to(dtype) for tensor in part) for part in (a, b))
    slots = [-1, 0, 1, 2, 3, -1, 1, -1]
    x = torch.randn(8, N_IN, dtype=dtype)
    once, twice = torch.randn(2, 8, sum(SIZES), dtype=dtype)
    base = once.clone()
    wanted = naive(x.float(), once.float(), [t.float() for t in a], [t.float() for t in b], slots)
    wrapper = wrapper_for(slots)

    wrapper.add_lora_linear(once, x, a, b, 1.0, SIZES)
    twice.copy_(base)
    wrapper.add_lora_linear(twice, x, a, b, 0.5, SIZES)
    wrapper.add_lora_linear(twice, x, a, b, 0.5, SIZES)

    tolerance = 1e-4 if dtype is torch.float32 else 0.5
    torch.testing.assert_close(once.float(), wanted, rtol=0.02, atol=tolerance)
    torch.testing.assert_close(twice.float(), wanted, rtol=0.02, atol=tolerance)
    assert torch.equal(once[[0, 5, 7]], base[[0, 5, 7]])


def test_a_nan_in_one_slot_reaches_no_other_row() -> None:
    a, b = weights(1)
    for tensor in a:
        tensor[3].fill_(float("nan"))
    slots = [0, 1, 2, 3, -1, 0, 1, 2]
    x, y = torch.randn(8, N_IN), torch.zeros(8, sum(SIZES))

    wrapper_for(slots).add_lora_linear(y, x, a, b, 1.0, SIZES)

    assert torch.isnan(y[3]).all()
    assert torch.isfinite(y[[0, 1, 2, 4, 5, 6, 7]]).all()


def test_an_infinite_product_of_one_adapter_reaches_no_other_row() -> None:
    a, b = weights(4)
    for tensor in a:
        tensor[2].fill_(3e38)
    slots = [0, 1, 2, 3, -1, 0, 1, 3]
    x, y = torch.ones(8, N_IN), torch.zeros(8, sum(SIZES))

    wrapper_for(slots).add_lora_linear(y, x, a, b, 1.0, SIZES)

    assert not torch.isfinite(y[2]).any()
    assert torch.isfinite(y[[0, 1, 3, 4, 5, 6, 7]]).all()


def test_an_adapter_written_after_the_first_step_is_what_the_next_one_uses() -> None:
    a, b = weights(5)
    slots = [0, 1, 2, -1]
    x = torch.randn(4, N_IN)
    wrapper = wrapper_for(slots)
    wrapper.add_lora_linear(torch.zeros(4, sum(SIZES)), x, a, b, 1.0, SIZES)
    for part, size in enumerate(SIZES):  # As vLLM's set_lora does.
        a[part][1, 0, :RANK, :N_IN].copy_(torch.randn(RANK, N_IN))
        b[part][1, 0, :size, :RANK].copy_(torch.randn(size, RANK))
    y = torch.randn(4, sum(SIZES))
    wanted = naive(x, y, a, b, slots)

    wrapper.add_lora_linear(y, x, a, b, 1.0, SIZES)

    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-4)


def test_laying_slots_out_changes_none_of_their_values() -> None:
    a, b = weights(6)
    before = [tensor.clone() for tensor in (*a, *b)]

    storage = kernels.SlotStorages().of(a, b)

    assert all(torch.equal(x, y) for x, y in zip(before, (*a, *b), strict=True))
    assert len({tensor.untyped_storage().data_ptr() for tensor in a}) == 1
    assert storage.down_of(1, 2).shape == (2 * len(SIZES) * RANK, N_IN)


def test_the_masked_upstream_ops_leave_base_rows_alone() -> None:
    kernels.mask_upstream_ops()
    from vllm.lora.punica_wrapper import punica_cpu

    a, b = weights(2)
    x, out = torch.randn(3, N_IN), torch.zeros(3, SIZES[0])
    hidden = torch.zeros(3, RANK)
    indices = torch.tensor([-1, 2, -1])

    punica_cpu.bgmv_shrink(x, a[0], hidden, indices, 1.0)
    punica_cpu.bgmv_expand(hidden, b[0], out, indices, add_inputs=True)

    assert (out[[0, 2]] == 0).all()
    torch.testing.assert_close(out[1], b[0][2, 0] @ (a[0][2, 0] @ x[1]), rtol=1e-4, atol=1e-4)
