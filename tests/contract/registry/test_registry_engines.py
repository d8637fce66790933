"""The same promises on SQLite and PostgreSQL: engines are looked at by several at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from serving.controller.registry.repository import Repository
from tests.builders.controller import a_report


class _Interrupted:
    """A session during whose second query something else happens."""

    def __init__(self, session: Any, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._session, self._meanwhile, self._n_queries = session, meanwhile, 0

    async def execute(self, query: Any) -> Any:
        result = await self._session.execute(query)
        self._n_queries += 1
        if self._n_queries == 2:
            await self._meanwhile()
        return result


async def test_a_look_at_engines_is_not_disturbed_by_a_newer_one(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet, read = repository.fleet, repository.sessions.read
    await fleet.record_report(a_report(engine_id="engine-0", revision=1))
    await fleet.engines()
    # Not read before, so that the look takes two queries.
    await fleet.record_report(a_report(engine_id="engine-1", revision=1))

    async def meanwhile() -> None:
        monkeypatch.setattr(repository.sessions, "read", read)
        await fleet.record_report(a_report(engine_id="engine-0", revision=2))
        await fleet.engines()

    @asynccontextmanager
    async def interrupted() -> AsyncIterator[_Interrupted]:
        async with read() as session:
            yield _Interrupted(session, meanwhile)

    monkeypatch.setattr(repository.sessions, "read", interrupted)
    seen = await fleet.engines()

    assert [item.report.engine_id for item in seen] == ["engine-0", "engine-1"]
    assert [item.report.revision for item in await fleet.engines()] == [2, 1]
