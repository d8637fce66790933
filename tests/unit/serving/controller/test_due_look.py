"""Many workers that wake at once ask one question; a change makes the next one ask again."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import cast

from serving.controller.due_look import DueLook
from serving.controller.lifecycle import State
from serving.controller.registry.work import Work


class Registry:
    """Counts how often it is read; something may change while it is."""

    def __init__(self, due: dict[State, float]) -> None:
        self.due, self.n_reads = due, 0
        self.look: DueLook | None = None

    async def next_due(self, states: Collection[State]) -> dict[State, float]:
        self.n_reads += 1
        found = {state: at for state, at in self.due.items() if state in states}
        await asyncio.sleep(0)
        if self.look is not None:
            self.look.changed()
            self.look = None
        return found


def look_at(registry: Registry) -> DueLook:
    return DueLook(cast("Work", registry), list(State))


async def test_workers_that_wake_at_once_share_a_look() -> None:
    registry = Registry({State.STAGING: 7.0, State.RETIRED: 3.0})
    look = look_at(registry)

    found = await asyncio.gather(
        look.due_at((State.STAGING,)),
        look.due_at((State.STAGING, State.RETIRED)),
        look.due_at((State.EVALUATING,)),
    )

    assert list(found) == [7.0, 3.0, None]
    assert registry.n_reads == 1


async def test_after_a_change_the_registry_is_read_again() -> None:
    registry = Registry({})
    look = look_at(registry)
    assert await look.due_at((State.STAGING,)) is None

    registry.due = {State.STAGING: 1.0}
    assert await look.due_at((State.STAGING,)) is None
    look.changed()

    assert await look.due_at((State.STAGING,)) == 1.0


async def test_a_change_during_the_look_is_not_lost() -> None:
    registry = Registry({})
    look = registry.look = look_at(registry)

    assert await look.due_at((State.STAGING,)) is None
    registry.due = {State.STAGING: 1.0}

    assert await look.due_at((State.STAGING,)) == 1.0
