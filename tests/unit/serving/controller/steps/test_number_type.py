"""The standalone model computes in one number type at a time; who needs another waits."""

from __future__ import annotations

import asyncio

import pytest

from serving.controller.steps.number_type import NumberTypeTurns


async def test_measurements_in_one_type_go_on_side_by_side() -> None:
    turns, heard = NumberTypeTurns(), list[str]()

    async with (
        asyncio.timeout(60),
        turns.hold("float32", on_waiting=heard.append),
        turns.hold("float32", on_waiting=heard.append),
    ):
        pass

    assert heard == []


async def test_another_type_waits_for_all_of_them_and_says_what_for() -> None:
    turns, heard, done = NumberTypeTurns(), list[str](), list[str]()

    async def other() -> None:
        async with turns.hold("bfloat16", on_waiting=heard.append):
            done.append("other")

    async with turns.hold("float32", on_waiting=heard.append):
        async with turns.hold("float32", on_waiting=heard.append):
            waiting = asyncio.create_task(other())
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        done.append("both")
    async with asyncio.timeout(60):
        await waiting

    assert done == ["both", "other"]
    assert heard == ["another measurement needs the standalone model in float32"]


@pytest.mark.parametrize("n_waiting", [1, 3])
async def test_one_that_fails_or_is_cancelled_holds_up_nobody(n_waiting: int) -> None:
    turns, n_done = NumberTypeTurns(), 0

    async def broken() -> None:
        async with turns.hold("float32", on_waiting=print):
            await asyncio.sleep(3600)

    async def other(dtype: str) -> None:
        nonlocal n_done
        async with turns.hold(dtype, on_waiting=lambda _: None):
            await asyncio.sleep(0)
            n_done += 1

    running = asyncio.create_task(broken())
    await asyncio.sleep(0)
    others = [asyncio.create_task(other(f"type {n}")) for n in range(n_waiting)]
    await asyncio.sleep(0)

    running.cancel()

    async with asyncio.timeout(60):
        await asyncio.gather(*others)
    assert n_done == n_waiting
