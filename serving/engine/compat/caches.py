"""vLLM's LoRA caches, counting for themselves, in the worker process.

Subclasses instead of wrapped functions: what is counted is the cache's own operation, whoever asked
for it. Warm-up dummies never pass `_load_adapter`, so an id without a name is not counted.
Source of the behaviour: vllm/lora/model_manager.py and worker_manager.py, vLLM 0.32.0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch.distributed
from vllm.lora.model_manager import AdapterLRUCache, LRUCacheLoRAModelManager
from vllm.lora.worker_manager import LRUCacheWorkerLoRAManager

from serving.engine.compat.facts import Facts, publish
from serving.engine.compat.strict import check_loaded_adapter
from serving.settings import EngineSettings


class CountedCache(AdapterLRUCache[Any]):  # type: ignore[misc]  # vllm is untyped here
    """Tells `on_removed(adapter id)` of every removal, whatever its cause."""

    def __init__(
        self,
        capacity: int,
        deactivate_fn: Callable[[int], object],
        on_removed: Callable[[int], None],
    ) -> None:
        super().__init__(capacity, deactivate_fn)
        self._on_removed = on_removed

    def _on_remove(self, key: int, value: Any) -> None:
        super()._on_remove(key, value)
        self._on_removed(key)


class CountedManager(LRUCacheLoRAModelManager):  # type: ignore[misc]
    """Counts loads into slots and LRU evictions from both caches; frees what is removed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.facts = Facts(gpu_slots=self.lora_slots, cpu_slots=self.capacity)
        self.name_by_id: dict[int, str] = {}
        self.is_dirty = True
        self.hot: tuple[str, ...] = ()
        """Names to keep in a slot as long as no batch needs the place, hottest first."""
        self._is_asked_for = False
        self._registered_adapters = CountedCache(
            self.capacity, self.deactivate_adapter, self._count_cache_removal
        )
        self._active_adapters = CountedCache(
            self.lora_slots, self._deactivate_adapter, self._count_slot_removal
        )

    def _count_cache_removal(self, lora_id: int) -> None:
        if (name := self.name_by_id.get(lora_id)) is None:
            return
        self.is_dirty = True
        if self._is_asked_for:
            self.facts.of(name).removals += 1
        else:
            self.facts.of(name).evictions_cache += 1

    def _count_slot_removal(self, lora_id: int) -> None:
        if (name := self.name_by_id.get(lora_id)) is None:
            return
        self.is_dirty = True
        since = self.facts.in_slot_since.pop(name, None)
        if since is not None:
            self.facts.of(name).slot_seconds += time.monotonic() - since
        if not self._is_asked_for:
            self.facts.of(name).evictions_slot += 1

    @contextmanager
    def _asked_for(self) -> Iterator[None]:
        before, self._is_asked_for = self._is_asked_for, True
        try:
            yield
        finally:
            self._is_asked_for = before

    def activate_adapter(self, lora_id: int) -> bool:
        """Copy into a slot if not there; a failure leaves no half-written slot behind.

        vLLM books the slot before it copies, so after an exception the slot would count as filled.
        """
        started = time.perf_counter()
        try:
            was_loaded: bool = super().activate_adapter(lora_id)
        except BaseException:
            with self._asked_for():
                self.deactivate_adapter(lora_id)
            self.count_failure(lora_id)
            raise
        if was_loaded and (name := self.name_by_id.get(lora_id)) is not None:
            self.facts.of(name).loads_cache += 1
            self.facts.load_seconds["cache"].observe(time.perf_counter() - started)
            self.facts.in_slot_since[name] = time.monotonic()
            self.is_dirty = True
        return was_loaded

    def count_failure(self, lora_id: int) -> None:
        """Book a load that failed."""
        if (name := self.name_by_id.get(lora_id)) is not None:
            self.facts.of(name).failures += 1
            self.is_dirty = True

    def prefer(self, batch: Collection[int]) -> None:
        """Touch what should stay in its slot: hot ones, and then what this batch has there already.

        Only the order changes (utils/cache.py `touch`, vLLM 0.32): where a batch needs a place, the
        oldest leaves, a hot one too. A pin would make the engine fail there. With the batch's own
        touched first, none of it is evicted for another of it that is loaded before.
        """
        slots = self._active_adapters
        hot = {self.name_by_id.get(key): key for key in slots.order} if self.hot else {}
        for name in reversed(self.hot):
            if name in hot:
                slots.touch(hot[name])
        for lora_id in batch:
            slots.touch(lora_id)

    def prepare(self, lora: Any) -> None:
        """Pack and scale outside the engine's loop; `add_adapter` then only registers it."""
        self._validate_moe_lora_format(lora)
        self._create_merged_loras_inplace(lora)
        lora.is_prepared = True

    def _add_adapter(self, lora: Any) -> None:
        if getattr(lora, "is_prepared", False):
            self._registered_adapters[lora.id] = lora
        else:
            super()._add_adapter(lora)

    def remove_adapter(self, adapter_id: int) -> bool:
        """Remove on request: frees slot and memory, counts as no eviction."""
        with self._asked_for():
            return bool(super().remove_adapter(adapter_id))

    def remove_all_adapters(self) -> None:
        """Forget everything, on vLLM's own request (warm-up, weight reload)."""
        with self._asked_for():
            super().remove_all_adapters()

    def evict_oldest(self, *, leased: set[int]) -> int | None:
        """Evict the least recently used adapter that nobody holds a lease on; its id or None."""
        for lora_id in list(self._registered_adapters.order):
            if lora_id not in leased:
                self._registered_adapters.pop(lora_id)
                return int(lora_id)
        return None

    def residency(self) -> tuple[list[str], list[str]]:
        """Names in slots and in CPU memory, least recently used first."""
        names = self.name_by_id
        active = [names[key] for key in self._active_adapters.order if key in names]
        cached = [names[key] for key in self._registered_adapters.order if key in names]
        return active, cached


class CountedWorkerManager(LRUCacheWorkerLoRAManager):  # type: ignore[misc]
    """Counts reads from disk and runs the strict check before anything is evicted."""

    _manager_cls = CountedManager

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._facts_path = EngineSettings.from_environment().facts_path
        self._facts_path.parent.mkdir(parents=True, exist_ok=True)

    def read_adapter(self, lora_request: Any) -> Any:
        """Read, cast and strictly check an adapter; touches no cache, so any thread may call it.

        Raises:
            LoadRefusedInWorker: the adapter would not compute what its files say.
        """
        started = time.perf_counter()
        lora = super()._load_adapter(lora_request)
        check_loaded_adapter(lora, self._adapter_manager)
        lora.read_seconds = time.perf_counter() - started
        return lora

    def _load_adapter(self, lora_request: Any) -> Any:
        """vLLM's own path, inside a step: kept right, and counted as what leases must prevent."""
        lora = self.read_adapter(lora_request)
        self.count_read(lora_request.lora_int_id, lora_request.lora_name, lora.read_seconds)
        self._adapter_manager.facts.loads_in_step += 1
        return lora

    def count_read(self, lora_id: int, name: str, seconds: float) -> None:
        """Book one read from disk that is about to be registered."""
        manager = self._adapter_manager
        manager.name_by_id[lora_id] = name
        manager.facts.of(name).loads_disk += 1
        manager.facts.load_seconds["disk"].observe(seconds)
        manager.is_dirty = True

    def _apply_adapters(self, lora_requests: set[Any]) -> None:
        batch = [request.lora_int_id for request in lora_requests if request]
        self._adapter_manager.prefer(batch)
        super()._apply_adapters(lora_requests)
        self.publish_facts()

    def publish_facts(self) -> None:
        """Write the facts file if anything changed; all ranks count alike, rank 0 writes."""
        manager = self._adapter_manager
        if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
            return
        active, cached = manager.residency()
        has_moved = active != manager.facts.active or cached != manager.facts.cached
        if not (manager.is_dirty or has_moved):
            return
        manager.facts.active, manager.facts.cached = active, cached
        manager.is_dirty = False
        publish(manager.facts, self._facts_path)
