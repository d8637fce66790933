"""What a slot costs: GPU bytes, KV tokens, padding, and the latency that too few of them add."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from serving.capacity.curve import Curve

RANK_CLASSES = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Values of `--max-lora-rank` in vLLM 0.32, the same as the engine profile's."""
CPU_SLOTS_PER_GPU_SLOT = 4
"""The engine profile's rule."""
TARGET_MODULES = frozenset(
    {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
)
"""What the engine profile lets adapters change by default."""
_ROW_PARALLEL = frozenset({"o_proj", "down_proj"})
_KEY_VALUE = frozenset({"k_proj", "v_proj"})

Shapes = Mapping[str, tuple[int, int]]
"""(in, out) features of linear modules by full name, as `BaseModelCard.modules` has them."""


def slot_bytes(
    shapes: Shapes,
    *,
    max_rank: int,
    dtype_bytes: int,
    target_modules: Collection[str] = TARGET_MODULES,
    n_gpus: int = 1,
) -> int:
    """GPU bytes that one slot reserves on each of `n_gpus` tensor-parallel GPUs.

    A slot is sized for `max_rank`, not for an adapter's own rank: vLLM 0.32 allocates A as
    (max_loras, 1, max_rank, in) and B as (max_loras, 1, out, max_rank) when it starts.
    Column-parallel modules split `out` over the GPUs, row-parallel ones `in`.
    Source: vllm/lora/layers of vLLM 0.32; checked by tests/contract/test_slot_bytes.py.
    """
    features = 0
    for name, (n_in, n_out) in shapes.items():
        kind = name.rpartition(".")[2]
        if kind not in target_modules:
            continue
        if kind in _ROW_PARALLEL:
            features += n_in // n_gpus + n_out
        else:
            features += n_in + n_out // n_gpus
    return features * max_rank * dtype_bytes


def kv_bytes_per_token(shapes: Shapes, *, dtype_bytes: int, n_gpus: int = 1) -> int | None:
    """Bytes of the KV cache for one token on each GPU: what `k_proj` and `v_proj` put out.

    layers x 2 x KV heads x head size x dtype. None for a base whose keys and values are not in
    modules of their own.
    """
    outputs = [
        n_out for name, (_, n_out) in shapes.items() if name.rpartition(".")[2] in _KEY_VALUE
    ]
    return sum(outputs) * dtype_bytes // n_gpus if outputs else None


def kv_tokens_per_slot(bytes_of_slot: int, bytes_of_token: int | None) -> float | None:
    """Tokens that the KV cache is smaller by for each further slot."""
    return bytes_of_slot / bytes_of_token if bytes_of_token else None


def rank_class(ranks: Collection[int]) -> int | None:
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
