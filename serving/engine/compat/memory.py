"""What the worker has really allocated for adapters' slots and for the KV cache.

Read from the tensors themselves: vLLM 0.32 keeps each wrapped layer's slots in `lora_a_stacked` and
`lora_b_stacked` (vllm/lora/layers), and the cache's layout in the runner's `kv_cache_config`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import structlog
import torch

from serving.engine.compat.facts import MemoryFacts

_log = structlog.get_logger(__name__)
_SLOT_TENSORS = ("lora_a_stacked", "lora_b_stacked")
"""Endings of attribute names: layers of experts put a prefix before them."""


def read_memory(model_runner: Any, vllm_config: Any) -> MemoryFacts | None:
    """Bytes on this rank; None where this vLLM does not look as expected."""
    try:
        manager = model_runner.lora_manager._adapter_manager  # noqa: SLF001 - no accessor
        n_slot_bytes = sum(storage_bytes(slot_tensors(manager.modules.values())).values())
        n_kv_bytes = sum(storage_bytes(_tensors(model_runner.kv_caches)).values())
        n_tokens = _kv_tokens(model_runner.kv_cache_config, vllm_config)
        return MemoryFacts(
            slot_bytes=n_slot_bytes // manager.lora_slots,
            kv_bytes_per_token=n_kv_bytes // n_tokens,
            kv_tokens=n_tokens,
        )
    except (AttributeError, TypeError, ZeroDivisionError) as exc:
        _log.warning("the engine's memory could not be read", reason=repr(exc))
        return None


def slot_tensors(modules: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Every tensor that holds slots, views included."""
    for module in modules:
        for name, value in vars(module).items():
            if name.endswith(_SLOT_TENSORS):
                yield from _tensors(value)


def storage_bytes(tensors: Iterable[torch.Tensor]) -> dict[int, int]:
    """Bytes by address: views and layers that share a module count once."""
    storages = (tensor.untyped_storage() for tensor in tensors)
    return {storage.data_ptr(): storage.nbytes() for storage in storages}


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _tensors(member)


def _kv_tokens(kv_cache_config: Any, vllm_config: Any) -> int:
    """Tokens that the cache holds, of sequences as long as allowed where layers differ."""
    groups = kv_cache_config.kv_cache_groups
    if len(groups) == 1:
        return int(kv_cache_config.num_blocks * groups[0].kv_cache_spec.block_size)
    from vllm.v1.core.kv_cache_utils import get_max_concurrency_for_kv_cache_config

    n_sequences = get_max_concurrency_for_kv_cache_config(vllm_config, kv_cache_config)
    return int(n_sequences * vllm_config.model_config.max_model_len)
