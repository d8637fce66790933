"""When each state's next version is due: one question for all workers that wake at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from serving.controller.lifecycle import State
from serving.controller.registry.work import Work


class DueLook:
    """What was last read, and whether it still holds: until the next change that is told."""

    def __init__(self, work: Work, states: Collection[State]) -> None:
        self._work, self._states = work, frozenset(states)
        self._lock = asyncio.Lock()
        self._n_changes = 1
        self._seen_at = 0
        self._due: dict[State, float] = {}

    def changed(self) -> None:
        """What was read before may be out of date."""
        self._n_changes += 1

    async def due_at(self, states: Collection[State]) -> float | None:
        """When the next version in `states` becomes due (Unix seconds); None: there is none.

        Raises:
            RegistryUnavailable: the registry did not answer.
        """
        async with self._lock:
            if self._seen_at != self._n_changes:
                # Counted before it is read: a change meanwhile makes it out of date again.
                n_changes = self._n_changes
                self._due = await self._work.next_due(self._states)
                self._seen_at = n_changes
        return min((self._due[state] for state in states if state in self._due), default=None)
