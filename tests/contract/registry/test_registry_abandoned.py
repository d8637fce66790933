"""A write that is frozen half-way keeps nobody else from writing; PostgreSQL alone lets that be.

SQLite's writers are on one machine, and its lock goes with the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import event, text

from serving.controller.registry import transactions
from serving.controller.registry.repository import Repository
from serving.controller.registry.transactions import Sessions, Unit
from tests.builders.postgres import empty_database
from tests.builders.registry import Clock

pytestmark = pytest.mark.postgres


def forget_settings(sessions: Sessions) -> None:
    """As behind a pooler by transactions: each one may meet another session of the server."""

    @event.listens_for(sessions.engine.sync_engine, "checkout")
    def reset(connection: Any, _record: Any, _proxy: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("RESET ALL")
        cursor.close()
        connection.commit()


@pytest.fixture
async def sessions(postgres_url: str) -> AsyncIterator[Sessions]:
    url = await empty_database(postgres_url)
    repository = Repository(url, clock=Clock())
    await repository.prepare()
    await repository.close()
    made = Sessions(url, clock=Clock())
    forget_settings(made)
    yield made
    await made.close()


async def audit(unit: Unit) -> int:
    unit.audit("tried", "fleet", actor="root")
    return unit.fleet.audit_sequence


async def test_a_frozen_write_is_ended_and_others_go_on(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transactions, "_ABANDONED_SECONDS", 1)
    is_inside, may_go_on, n_runs = asyncio.Event(), asyncio.Event(), 0

    async def frozen(unit: Unit) -> int:
        nonlocal n_runs
        n_runs += 1
        sequence = await audit(unit)
        is_inside.set()
        await may_go_on.wait()
        return sequence

    first = asyncio.create_task(sessions.write(frozen))
    await is_inside.wait()

    async with asyncio.timeout(60):
        second = await sessions.write(audit)

    may_go_on.set()
    assert (await first, n_runs) == (second + 1, 2), "what was ended left nothing, and ran again"


async def test_what_a_write_is_bound_to_does_not_stay_on_the_connection(
    sessions: Sessions,
) -> None:
    show = text("SHOW idle_in_transaction_session_timeout")

    async def work(unit: Unit) -> str:
        return str((await unit.session.execute(show)).scalar_one())

    assert await sessions.write(work) == f"{transactions._ABANDONED_SECONDS}s"
    async with sessions.engine.connect() as connection:
        assert (await connection.execute(show)).scalar_one() == "0"
