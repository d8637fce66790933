"""Each key once, nobody beside another at one key, and pauses that grow."""

from __future__ import annotations

import asyncio

import pytest

from serving.kube.key_queue import KeyQueue


async def taken(queue: KeyQueue) -> list[str]:
    """All keys that can be had now."""
    keys = []
    while True:
        try:
            async with asyncio.timeout(0.05):
                keys.append(await queue.take())
        except TimeoutError:
            return keys


async def test_a_key_that_is_added_twice_is_had_once_in_order() -> None:
    queue = KeyQueue()
    for key in ("a", "b", "a"):
        queue.add(key)

    assert await taken(queue) == ["a", "b"]


async def test_a_key_that_is_added_while_somebody_works_at_it_comes_again_afterwards() -> None:
    queue = KeyQueue()
    queue.add("a")
    await queue.take()

    queue.add("a")
    meanwhile = await taken(queue)
    queue.done("a")

    assert meanwhile == []
    assert await taken(queue) == ["a"]


async def test_a_key_that_is_done_does_not_come_again_by_itself() -> None:
    queue = KeyQueue()
    queue.add("a")
    queue.done(await queue.take())

    assert await taken(queue) == []


async def test_a_waiting_worker_gets_a_key_that_is_added_later() -> None:
    queue = KeyQueue()
    waiting = asyncio.create_task(queue.take())
    queue.add_later("a", 0.01)

    async with asyncio.timeout(30):
        assert await waiting == "a"


async def test_the_earliest_of_several_times_counts() -> None:
    queue = KeyQueue()
    queue.add_later("a", 3600)
    queue.add_later("a", 0.0)
    queue.add_later("a", 3600)

    async with asyncio.timeout(30):
        assert await queue.take() == "a"
    queue.close()


async def test_pauses_double_up_to_the_longest_and_start_anew_after_a_success() -> None:
    queue = KeyQueue(max_pause_seconds=5)

    pauses = [queue.pause_seconds("a") for _ in range(5)]
    other = queue.pause_seconds("b")
    queue.forget_failures("a")

    assert pauses == [1, 2, 4, 5, 5]
    assert other == 1
    assert queue.pause_seconds("a") == 1


async def test_a_thousand_failures_are_no_overflow() -> None:
    queue = KeyQueue(max_pause_seconds=300)

    assert max(queue.pause_seconds("a") for _ in range(2000)) == pytest.approx(300)
