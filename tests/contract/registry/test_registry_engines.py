"""The same promises on SQLite and PostgreSQL: engines are looked at by several at once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import text

from serving.abridged_report import abridge
from serving.contract import EngineReport, VersionReport, VersionState
from serving.controller.errors import LimitExceeded
from serving.controller.lifecycle import State
from serving.controller.registry.repository import Repository
from serving.controller.registry.restored import MAX_DISTANCE
from serving.controller.registry.transactions import Unit
from serving.snapshot_delta import HeldSnapshot
from tests.builders.controller import a_report
from tests.builders.registry import a_version, an_upload
from tests.builders.snapshots import snapshot, version


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
    # Written by another process and not read before, so that the look takes two queries.
    other = Repository(repository.sessions.url, sessions=repository.sessions)
    await other.fleet.record_report(a_report(engine_id="engine-1", revision=1))

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


async def test_reports_that_come_at_once_are_all_kept_but_for_the_one_that_cannot_be(
    repository: Repository,
) -> None:
    reports = [a_report(f"engine-{n}") for n in range(9)]
    reports[4] = a_report("engine-4", revision=MAX_DISTANCE + 10)

    found = await asyncio.gather(
        *(repository.fleet.record_report(report) for report in reports), return_exceptions=True
    )

    assert isinstance(found.pop(4), LimitExceeded)
    assert all(found)
    kept = [engine.report.engine_id for engine in await repository.fleet.engines()]
    assert kept == [f"engine-{n}" for n in range(9) if n != 4]


async def test_the_last_of_two_reports_of_one_engine_in_one_write_counts(
    repository: Repository,
) -> None:
    await repository.fleet.record_report(a_report("engine-1"))

    await asyncio.gather(
        *(repository.fleet.record_report(a_report(max_rank=rank)) for rank in (4, 8, 16))
    )
    stale = await repository.fleet.record_report(a_report(started_at=0.5, max_rank=64))

    assert not stale
    other = Repository(repository.sessions.url, sessions=repository.sessions)
    for fleet in (repository.fleet, other.fleet):
        assert [engine.report.max_rank for engine in await fleet.engines()] == [16, 16]


async def test_a_leader_does_not_parse_again_what_its_own_process_was_told(
    repository: Repository,
) -> None:
    report = a_report()
    await repository.leadership.take(1)
    led = repository.under(1)
    await repository.fleet.record_report(report)

    (seen,) = await led.fleet.engines()

    assert seen.report is report


async def test_nothing_is_kept_of_an_engine_that_is_gone(repository: Repository) -> None:
    for name in ("pod-1", "pod-2", "pod-3"):
        await repository.fleet.record_report(a_report(name))
    other = Repository(repository.sessions.url, sessions=repository.sessions)
    await other.fleet.forget_engine("pod-1", actor="controller")
    await other.fleet.forget_engine("pod-2", actor="controller")

    (left,) = await repository.fleet.engines()

    kept = {item.engine_id for item in gc.get_objects() if type(item) is EngineReport}
    assert left.report.engine_id == "pod-3"
    assert kept & {"pod-1", "pod-2", "pod-3"} == {"pod-3"}


async def test_only_what_steps_go_by_is_news(repository: Repository) -> None:
    held = VersionReport("acme/support@1", "sha256:1", VersionState.LOADING)
    proven = VersionReport("acme/support@1", "sha256:1", VersionState.PROVEN)
    told = [
        a_report(versions=[held]),
        a_report(versions=[held], trace_position=7),
        a_report(versions=[proven]),
        a_report(versions=[proven], is_ready=False),
        a_report(versions=[proven], is_ready=False, active=["acme/support@1"]),
    ]

    found = [(await repository.fleet.record_report(report)).is_news for report in told]

    assert found == [True, False, True, True, False]


async def test_a_short_report_is_whole_where_its_snapshot_is_known_and_unknown_elsewhere(
    repository: Repository,
) -> None:
    held = HeldSnapshot.of(snapshot(version("acme/support@1"), version("acme/support@2")))
    failed = VersionReport("acme/support@2", "sha256:2", VersionState.FAILED)
    report = a_report(revision=held.snapshot.revision, versions=[held.proven_list[0], failed])
    repository.fleet.history.keep(held)
    other = Repository(repository.sessions.url, sessions=repository.sessions)
    # The registry has to have reached what the engine follows.
    await a_version(repository, an_upload(), until=State.LIVE)

    await repository.fleet.record_report(abridge(report, held))

    (ours,) = await repository.fleet.engines()
    assert (ours.report, ours.is_abridged) == (report, False)
    (theirs,) = await other.fleet.engines()
    assert (theirs.report.versions, theirs.is_abridged) == ([failed], True)
    other.fleet.history.keep(held)
    (theirs,) = await other.fleet.engines()
    assert (theirs.report, theirs.is_abridged) == (report, False)


async def test_a_row_is_the_same_object_until_it_changes_whoever_changes_it(
    repository: Repository,
) -> None:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    await a_version(repository, an_upload("two", adapter="sql"), until=State.LIVE)
    before = {row.id: row for row in (await repository.fleet.snapshot_rows()).versions}
    other = Repository(repository.sessions.url, sessions=repository.sessions)

    await other.versions.retire("acme/sql@1", actor="ann")
    await a_version(other, an_upload("three"), until=State.STAGING)
    rows = await repository.fleet.snapshot_rows()
    after = {row.id: row for row in rows.versions}

    assert before.keys() == {"acme/support@1", "acme/sql@1"}
    assert after.keys() == {"acme/support@1", "acme/support@2"}
    assert after["acme/support@1"] is before["acme/support@1"]
    whole = (await other.fleet.snapshot_rows()).versions
    assert {row.id: row.attempt for row in whole} == {key: r.attempt for key, r in after.items()}


async def test_a_row_that_an_older_controller_has_moved_is_read_again(
    repository: Repository,
) -> None:
    """While an upgrade rolls out, the one before still writes, and knows nothing of tokens."""
    await a_version(repository, an_upload("one"), until=State.STAGING)
    (before,) = (await repository.fleet.snapshot_rows()).versions

    async def work(unit: Unit) -> None:
        await unit.session.execute(
            text("UPDATE versions SET state = 'live', state_since = state_since + 1")
        )

    await repository.sessions.write(work)
    (after,) = (await repository.fleet.snapshot_rows()).versions

    assert (before.state, after.state) == (State.STAGING, State.LIVE)
