"""Calls that the API process makes on every worker (vLLM's `collective_rpc`), between two steps.

Each returns at once: reading an adapter runs in a thread, registering it is a dictionary entry. So
a load stalls nobody. Answers are plain dicts, because they cross processes as msgpack.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import structlog
import torch
from vllm.lora.request import LoRARequest

from serving.engine.compat.memory import read_memory
from serving.engine.compat.strict import LoadRefusedInWorker

_log = structlog.get_logger(__name__)
_READER_NICENESS = 10


def _yield_to_the_model() -> None:
    """Run the reader beside the model's threads, not in their place.

    vLLM's CPU worker binds its threads to cores and a new thread inherits the binding; on Linux
    niceness and affinity belong to the thread.
    """
    torch.set_num_threads(1)
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _READER_NICENESS)
    os.sched_setaffinity(threading.get_native_id(), range(os.cpu_count() or 1))


_readers = ThreadPoolExecutor(
    max_workers=1, thread_name_prefix="loraplane-read", initializer=_yield_to_the_model
)
"""One reader: several would only compete with the model for memory bandwidth."""


class WorkerExtension:
    """Mixed into vLLM's worker class by `--worker-extension-cls`; `self` is the worker."""

    model_runner: Any
    vllm_config: Any

    def loraplane_begin_load(self, name: str, lora_id: int, path: str) -> bool:
        """Start reading an adapter in the background; repeated calls for one id are one read."""
        pending = self._loraplane_pending()
        if lora_id not in pending and lora_id not in self._loraplane_manager().list_adapters():
            request = LoRARequest(lora_name=name, lora_int_id=lora_id, lora_path=path)
            self._loraplane_manager().name_by_id[lora_id] = name
            pending[lora_id] = _readers.submit(self._loraplane_read, request)
        return True

    def loraplane_load_state(self, lora_id: int) -> dict[str, Any]:
        """`{"state": "resident" | "pending" | "ready" | "refused"}`, the last with its reason."""
        if lora_id in self._loraplane_worker_manager().list_adapters():
            return {"state": "resident"}
        future = self._loraplane_pending().get(lora_id)
        if future is None:
            return {"state": "refused", "reason": "not_started", "detail": "no load was started"}
        if not future.done():
            return {"state": "pending"}
        error = future.exception()
        if error is None:
            return {"state": "ready"}
        self._loraplane_manager().count_failure(lora_id)
        if isinstance(error, LoadRefusedInWorker):
            return {"state": "refused", "reason": error.reason, "detail": error.detail}
        _log.warning("adapter could not be read", lora_id=lora_id, exc_info=error)
        return {"state": "refused", "reason": "unreadable", "detail": f"{error!r}"[:500]}

    def loraplane_commit(self, name: str, lora_id: int, leased_ids: list[int]) -> dict[str, Any]:
        """Register an adapter that every worker has read, evicting LRU ones that hold no lease.

        Returns `{"state": "done", "evicted": [ids]}`, or `{"state": "full"}` when all places are
        leased; then nothing has changed.
        """
        worker_manager, manager = self._loraplane_worker_manager(), self._loraplane_manager()
        if lora_id in worker_manager.list_adapters():
            manager.get_adapter(lora_id)
            return {"state": "done", "evicted": []}
        evicted = self._loraplane_make_room(set(leased_ids))
        if evicted is None:
            return {"state": "full"}
        lora = self._loraplane_pending().pop(lora_id).result()
        worker_manager.count_read(lora_id, name, lora.read_seconds)
        manager.add_adapter(lora)
        worker_manager.publish_facts()
        return {"state": "done", "evicted": evicted}

    def loraplane_load_now(self, name: str, lora_id: int, path: str) -> dict[str, Any]:
        """Read and register inside the engine's loop, as vLLM itself does; for comparison only."""
        self._loraplane_worker_manager().add_adapter(
            LoRARequest(lora_name=name, lora_int_id=lora_id, lora_path=path)
        )
        return {"state": "done", "evicted": []}

    def loraplane_remove(self, lora_id: int, name: str, is_forgotten: bool) -> bool:
        """Free slot and memory of an adapter; `is_forgotten` ends its counts too."""
        self._loraplane_pending().pop(lora_id, None)
        manager = self._loraplane_manager()
        was_there = bool(manager.remove_adapter(lora_id))
        manager.name_by_id.pop(lora_id, None)
        if is_forgotten:
            manager.facts.adapters.pop(name, None)
        manager.is_dirty = True
        self._loraplane_worker_manager().publish_facts()
        return was_there

    def loraplane_keep_hot(self, names: list[str]) -> bool:
        """Which adapters to prefer in slots from the next step on; unknown ones are ignored."""
        self._loraplane_manager().hot = tuple(names)
        return True

    def loraplane_hooks(self, hooks: list[str]) -> dict[str, str]:
        """Which hooks are missing in this worker, and why; `hooks` are the wanted ones."""
        from serving.engine.compat.install import missing_hooks

        worker_manager = self._loraplane_worker_manager()
        missing = missing_hooks(hooks)
        if not hasattr(worker_manager, "read_adapter"):
            missing["caches"] = f"the worker uses {type(worker_manager).__name__}"
        else:
            facts = self._loraplane_manager().facts
            facts.memory = read_memory(self.model_runner, self.vllm_config)
            worker_manager.publish_facts()
        return missing

    def _loraplane_read(self, request: LoRARequest) -> Any:
        worker_manager = self._loraplane_worker_manager()
        lora = worker_manager.read_adapter(request)
        self._loraplane_manager().prepare(lora)
        return lora

    def _loraplane_make_room(self, leased: set[int]) -> list[int] | None:
        manager = self._loraplane_manager()
        if len(manager.list_adapters().keys() & leased) >= manager.capacity:
            return None
        evicted: list[int] = []
        while len(manager) + 1 > manager.capacity:
            lora_id = manager.evict_oldest(leased=leased)
            if lora_id is None:
                return None
            evicted.append(lora_id)
        return evicted

    def _loraplane_worker_manager(self) -> Any:
        return self.model_runner.lora_manager

    def _loraplane_manager(self) -> Any:
        return self.model_runner.lora_manager._adapter_manager  # noqa: SLF001 - vLLM has no accessor

    def _loraplane_pending(self) -> dict[int, Future[Any]]:
        if not hasattr(self, "_loraplane_pending_loads"):
            self._loraplane_pending_loads: dict[int, Future[Any]] = {}
        return self._loraplane_pending_loads
