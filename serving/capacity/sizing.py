"""What a slot costs: GPU bytes, KV tokens, padding, and the latency that too few of them add."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from serving.capacity.curve import Curve

RANK_CLASSES = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` in vLLM 0.32, the same as the engine profile's."""
CPU_SLOTS_PER_GPU_SLOT = 4
"""The engine profile's rule."""
MAX_SLOT_SHARE = 0.5
"""Of the memory for slots and KV cache, what slots may take; arbitrary."""
TARGET_MODULES = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
)
"""What the engine profile lets adapters change by default."""
_PACKED = (frozenset({"q_proj", "k_proj", "v_proj"}), frozenset({"gate_proj", "up_proj"}))
"""Modules that vLLM runs as one: if one of them may be adapted, it allocates for all."""
_ROW_PARALLEL = frozenset({"o_proj", "down_proj"})
_KEY_VALUE = frozenset({"k_proj", "v_proj"})

Shapes = Mapping[str, tuple[int, int]]
"""(in, out) features of linear modules by full name, as `BaseModelCard.modules` has them."""


@dataclass(frozen=True, slots=True)
class TensorParallel:
    """How one engine is spread over GPUs."""

    n_gpus: int = 1
    n_kv_heads: int | None = None
    """Key/value heads of the base: with more GPUs than heads, each GPU holds one whole head."""
    is_fully_sharded: bool = False
    """vLLM's `--fully-sharded-loras`."""


ONE_GPU = TensorParallel()


def slot_bytes(
    shapes: Shapes,
    *,
    max_rank: int,
    dtype_bytes: int,
    target_modules: Collection[str] = TARGET_MODULES,
    parallel: TensorParallel = ONE_GPU,
) -> int:
    """Bytes that one slot reserves on each GPU.

    A slot is sized for `max_rank`, not for an adapter's own rank: vLLM 0.32 allocates A as
    (max_loras, 1, max_rank, in) and B as (max_loras, 1, out, max_rank) when it starts, for each
    projection inside a packed module. Over several GPUs column-parallel modules split B and
    row-parallel ones A; fully sharded, the other half is split too. Experts of a mixture are not
    counted: an engine reports what it really holds. `dtype_bytes`: of the base's dtype.
    Source: vllm/lora/layers and model_manager.py of vLLM 0.32; checked by
    tests/contract/test_slot_bytes.py.
    """
    wrapped = set(target_modules)
    for pack in _PACKED:
        if wrapped & pack:
            wrapped |= pack
    n_gpus, is_sharded = parallel.n_gpus, parallel.is_fully_sharded
    numbers = 0
    for name, (n_in, n_out) in shapes.items():
        kind = name.rpartition(".")[2]
        if kind not in wrapped:
            continue
        if kind in _ROW_PARALLEL:
            a = max_rank * (n_in // n_gpus)
            b = max_rank * (n_out // n_gpus if is_sharded else n_out)
        else:
            a = (max_rank // n_gpus if is_sharded else max_rank) * n_in
            b = max_rank * _out_per_gpu(kind, n_out, parallel)
        numbers += a + b
    return numbers * dtype_bytes


def kv_bytes_per_token(
    shapes: Shapes, *, dtype_bytes: int, parallel: TensorParallel = ONE_GPU
) -> int | None:
    """Bytes of the KV cache for one token on each GPU: what `k_proj` and `v_proj` put out.

    layers x 2 x KV heads x head size x dtype. None for a base whose keys and values have no
    modules of their own. Layers that see a window alone count in full: vLLM plans with pages of
    one size.
    """
    outputs = [
        _out_per_gpu(kind, n_out, parallel)
        for name, (_, n_out) in shapes.items()
        if (kind := name.rpartition(".")[2]) in _KEY_VALUE
    ]
    return sum(outputs) * dtype_bytes if outputs else None


def _out_per_gpu(kind: str, n_out: int, parallel: TensorParallel) -> int:
    n_heads = parallel.n_kv_heads
    if kind in _KEY_VALUE and n_heads is not None and n_heads < parallel.n_gpus:
        return n_out // n_heads
    return n_out // parallel.n_gpus


def kv_tokens_per_slot(bytes_of_slot: int, bytes_of_token: int | None) -> float | None:
    """Tokens that the KV cache is smaller by for each further slot."""
    return bytes_of_slot / bytes_of_token if bytes_of_token else None


def slots_that_fit(memory_bytes: int, *, bytes_of_slot: int) -> int:
    """Slots that leave half of the memory for slots and KV cache to the KV cache."""
    return int(MAX_SLOT_SHARE * memory_bytes) // bytes_of_slot if bytes_of_slot else 0


def rank_class(ranks: Iterable[int]) -> int | None:
    """Smallest `--max-lora-rank` that carries all of these ranks; None: no ranks, or no value."""
    largest = max(ranks, default=None)
    if largest is None:
        return None
    return next((size for size in RANK_CLASSES if size >= largest), None)


def padding_bytes(ranks: Collection[int], *, max_rank: int, bytes_of_slot: int) -> int:
    """Bytes that stay zero when adapters of these ranks each fill a slot of `max_rank`."""
    bytes_of_rank = bytes_of_slot // max_rank
    return sum((max_rank - rank) * bytes_of_rank for rank in ranks if rank < max_rank)


def added_seconds(
    curve: Curve, *, gpu_slots: int, cpu_slots: int, load_seconds: Mapping[str, float | None]
) -> float | None:
    """Mean seconds that loading adds to a request.

    miss ratio of the slots x mean load from CPU memory (`cache`) + miss ratio of CPU memory x mean
    load from disk (`disk`). None without requests, or where a load that happens has no known time.
    """
    total = 0.0
    for source, slots in (("cache", gpu_slots), ("disk", cpu_slots)):
        ratio, seconds = curve.miss_ratio(slots), load_seconds.get(source)
        if ratio is None:
            return None
        if ratio > 0:
            if seconds is None:
                return None
            total += ratio * seconds
    return total
