"""Looks at sources, beside the workers: a place that is slow holds up nobody's status or deletion.

One look per object at a time, each a task of its own. How many places are asked and how many files
are fetched at once is bounded by `LoraDeeds`; a look that waits for its turn costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from serving.kube.lora_adapter import Resource

Look = Callable[[], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True)
class _Running:
    uid: str
    generation: int
    task: asyncio.Task[None]

    def is_of(self, resource: Resource) -> bool:
        return (self.uid, self.generation) == (resource.uid, resource.generation)


class LoraLooks:
    """The looks under way, by the object's name."""

    def __init__(self, on_end: Callable[[str], None]) -> None:
        """`on_end` hears of each object whose look has ended, however it did."""
        self._on_end = on_end
        self._running: dict[str, _Running] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Hold the looks until cancelled.

        Raises:
            ExceptionGroup: of what a look raised; the others are cancelled then.
        """
        try:
            async with asyncio.TaskGroup() as self._group:
                await asyncio.Event().wait()
        finally:
            self._group = None

    def is_under_way(self, resource: Resource) -> bool:
        """Whether this generation's source is being looked at."""
        running = self._running.get(resource.name)
        return running is not None and running.is_of(resource)

    def begin(self, resource: Resource, look: Look) -> None:
        """Look, unless it is under way; one for an older wish is ended first, and `on_end` told."""
        running = self._running.get(resource.name)
        if running is not None:
            if not running.is_of(resource):
                running.task.cancel()
            return
        if self._group is None:
            return
        task = self._group.create_task(look())
        self._running[resource.name] = _Running(resource.uid, resource.generation, task)
        task.add_done_callback(lambda _: self._ended(resource.name))

    def keep_only(self, resources: dict[str, Resource]) -> None:
        """End the looks for objects that are gone, being deleted, or other than they were."""
        for name, running in self._running.items():
            present = resources.get(name)
            if present is None or present.is_leaving or not running.is_of(present):
                running.task.cancel()

    def _ended(self, name: str) -> None:
        del self._running[name]
        self._on_end(name)
