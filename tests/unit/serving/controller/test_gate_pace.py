"""The gate presses an engine as hard as tenants leave room."""

from __future__ import annotations

import asyncio

from serving.controller.gate_pace import Pace


def test_a_quiet_engine_gets_full_concurrency_and_a_busy_one_a_single_request() -> None:
    pace = Pace(4)

    assert pace.limit == 4
    pace.observe("3")
    assert pace.limit == 1
    pace.observe("0")
    assert pace.limit == 4


def test_company_is_sent_until_tenants_give_it() -> None:
    pace = Pace(4)

    assert pace.needs_company
    pace.observe("1")
    assert pace.needs_company
    pace.observe("2")
    assert not pace.needs_company


def test_an_engine_that_says_nothing_or_nonsense_changes_nothing() -> None:
    pace = Pace(2)
    pace.observe("5")

    for said in (None, "", "many", "-1"):
        pace.observe(said)

    assert pace.limit == 1


async def test_workers_beyond_the_limit_wait_until_tenants_are_quiet() -> None:
    pace = Pace(3)
    pace.observe("2")
    went: list[int] = []

    async def work(index: int) -> None:
        await pace.turn(index)
        went.append(index)

    workers = [asyncio.create_task(work(index)) for index in range(3)]
    await asyncio.sleep(0)
    assert went == [0]
    pace.observe("0")
    await asyncio.gather(*workers)

    assert sorted(went) == [0, 1, 2]


async def test_the_end_of_the_work_lets_everybody_go_even_while_tenants_are_busy() -> None:
    pace = Pace(2)
    pace.observe("9")
    waiting = asyncio.create_task(pace.turn(1))
    await asyncio.sleep(0)

    pace.end()

    await asyncio.wait_for(waiting, 60)
