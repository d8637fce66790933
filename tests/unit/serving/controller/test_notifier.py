"""Waiting for a revision."""

from __future__ import annotations

import asyncio

from serving.controller.errors import RegistryUnavailable
from serving.controller.notifier import Notifier


class Database:
    """A revision that other replicas raise."""

    def __init__(self) -> None:
        self.revision, self.is_down = 0, False

    async def fetch(self) -> int:
        if self.is_down:
            raise RegistryUnavailable(reason="down")
        return self.revision


async def test_a_revision_that_exists_is_not_waited_for() -> None:
    notifier = Notifier(Database().fetch)
    notifier.publish(3)

    assert await notifier.wait_beyond(2, 0)
    assert not await notifier.wait_beyond(3, 0.01)


async def test_everybody_who_waits_is_woken_by_a_publication() -> None:
    notifier = Notifier(Database().fetch)
    waiting = [asyncio.create_task(notifier.wait_beyond(0, 10)) for _ in range(5)]
    await asyncio.sleep(0)

    notifier.publish(0)
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    notifier.publish(1)

    assert await asyncio.gather(*waiting) == [True] * 5


async def test_an_older_revision_changes_nothing() -> None:
    notifier = Notifier(Database().fetch)
    notifier.publish(5)
    notifier.publish(4)

    assert notifier.revision == 5


async def test_closing_ends_all_waiting_at_once() -> None:
    notifier = Notifier(Database().fetch)
    waiting = asyncio.create_task(notifier.wait_beyond(0, 60))
    await asyncio.sleep(0)

    notifier.close()

    assert await asyncio.wait_for(waiting, 1) is False
    assert notifier.is_closed
    await notifier.wait_change(60)


async def test_other_replicas_changes_are_found_even_after_an_outage() -> None:
    database = Database()
    notifier = Notifier(database.fetch, poll_seconds=0.01)
    polling = asyncio.create_task(notifier.run())
    database.is_down = True
    await asyncio.sleep(0.03)

    database.is_down, database.revision = False, 7

    assert await notifier.wait_beyond(6, 5)
    polling.cancel()
