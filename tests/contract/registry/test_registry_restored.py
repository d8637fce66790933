"""The same promises on SQLite and PostgreSQL: a restored registry goes on above its engines."""

from __future__ import annotations

import asyncio

import pytest

from serving.contract import VersionReport, VersionState
from serving.controller.errors import LimitExceeded
from serving.controller.lifecycle import State
from serving.controller.registry.repository import Repository
from serving.controller.registry.restored import LEAP, MAX_DISTANCE, MAX_LIFTED
from serving.controller.registry.tables import AuditRow
from serving.controller.registry.transactions import Unit
from tests.builders.controller import a_report
from tests.builders.registry import a_version, an_upload


async def trail(repository: Repository, action: str) -> list[AuditRow]:
    rows = await repository.audit.latest(limit=100)
    return [row for row in rows[::-1] if row.action == action]


def held(name: str) -> VersionReport:
    return VersionReport(name, "sha256:" + "1" * 64, VersionState.PROVEN)


async def test_a_registry_behind_its_engines_goes_on_above_all_of_them_in_one_audited_write(
    repository: Repository,
) -> None:
    before = await repository.fleet.revision()

    await asyncio.gather(
        *(
            repository.fleet.go_on_above(before + n, engine_id=f"engine-{n}")
            for n in (40, 41, 41, 7)
        )
    )

    assert await repository.fleet.revision() > before + 41
    (row,) = await trail(repository, "registry_restored")
    assert row.evidence is not None
    assert (row.evidence["from"], row.evidence["to"]) == (
        before,
        await repository.fleet.revision(),
    )


async def test_a_registry_that_is_as_far_as_its_engines_writes_nothing(
    repository: Repository,
) -> None:
    revision = await repository.fleet.revision()

    assert not await repository.fleet.go_on_above(revision, engine_id="engine-0")
    assert not await repository.fleet.go_on_above(-1, engine_id="engine-0")

    assert await repository.fleet.revision() == revision
    assert await trail(repository, "registry_restored") == []


async def test_later_changes_go_on_from_there(repository: Repository) -> None:
    await repository.fleet.go_on_above(1000, engine_id="engine-0")

    await a_version(repository, an_upload("one"), until=State.LIVE)

    rows = await repository.fleet.snapshot_rows()
    assert rows.revision > 1000 + LEAP
    assert [row.id for row in rows.versions] == ["acme/support@1"]


async def test_what_engines_hold_and_the_backup_does_not_know_is_told_once_and_its_number_kept(
    repository: Repository,
) -> None:
    known = await a_version(repository, an_upload("one"), until=State.LIVE)
    await repository.fleet.go_on_above(1000, engine_id="engine-0")
    versions = [held(known.id), held("acme/support@5"), held("gone/sql@2")]
    report = a_report(revision=1000, versions=versions)
    await repository.fleet.record_report(a_report(revision=3, versions=[held(known.id)]))

    for _ in range(3):
        await repository.fleet.record_report(report)
    await repository.fleet.record_report(a_report("engine-1", revision=1000, versions=versions))

    rows = await trail(repository, "engine_holds_unknown")
    assert [(row.actor, row.subject) for row in rows] == [
        (f"engine:engine-{n}", name) for n in (0, 1) for name in ("acme/support@5", "gone/sql@2")
    ]
    next_one, _ = await repository.versions.acknowledge(an_upload("two"))
    assert next_one.id == "acme/support@6"


async def test_an_engine_that_has_followed_is_not_asked_what_it_still_removes(
    repository: Repository,
) -> None:
    await repository.fleet.go_on_above(1000, engine_id="engine-0")

    await repository.fleet.record_report(
        a_report(revision=1000 + LEAP + 1, versions=[held("gone/sql@2")])
    )

    assert await trail(repository, "engine_holds_unknown") == []


async def test_the_report_of_an_engine_that_is_ahead_lifts_the_registry_and_tells_what_it_holds(
    repository: Repository,
) -> None:
    known = await a_version(repository, an_upload("one"), until=State.LIVE)
    found = await repository.fleet.revision()

    await repository.fleet.record_report(
        a_report(revision=500, versions=[held(known.id), held("acme/support@7")])
    )

    assert await repository.fleet.revision() == 500 + LEAP + 1
    (row,) = await trail(repository, "registry_restored")
    assert row.evidence == {"engine": "engine-0", "from": found, "to": 500 + LEAP + 1}
    (row,) = await trail(repository, "engine_holds_unknown")
    assert row.subject == "acme/support@7"
    next_one, _ = await repository.versions.acknowledge(an_upload("two"))
    assert next_one.id == "acme/support@8"


async def test_an_engine_that_starts_with_what_it_followed_tells_what_it_holds_when_it_asks(
    repository: Repository,
) -> None:
    await a_version(repository, an_upload("one"), until=State.LIVE)
    await repository.fleet.record_report(a_report(revision=-1, versions=[held("acme/support@7")]))
    assert await trail(repository, "engine_holds_unknown") == []

    assert await repository.fleet.go_on_above(500, engine_id="engine-0")

    (row,) = await trail(repository, "engine_holds_unknown")
    assert (row.actor, row.subject) == ("engine:engine-0", "acme/support@7")


async def test_engines_owe_a_report_while_they_follow_what_this_registry_never_gave_out(
    repository: Repository,
) -> None:
    fleet = repository.fleet
    present = await fleet.revision()
    assert not (await fleet.heard("engine-0", following=-1)).is_owed
    assert not (await fleet.heard("engine-0", following=present)).is_owed
    assert (await fleet.heard("engine-0", following=500)).is_owed

    await fleet.record_report(a_report("engine-1", revision=501))

    assert not (await fleet.heard("engine-1", following=501)).is_owed
    before = await fleet.heard("engine-0", following=500)
    assert (before.is_owed, before.report_token) == (True, None), "the lift was not its own"
    await fleet.record_report(a_report("engine-0", revision=500))
    assert not (await fleet.heard("engine-0", following=500)).is_owed
    assert (await fleet.heard("engine-0", following=500)).report_token is not None
    assert not (await fleet.heard("engine-0", following=await fleet.revision())).is_owed


@pytest.mark.parametrize("revision", [MAX_DISTANCE + 100, 2**53, 2**63, 2**70])
async def test_no_engine_lifts_the_registry_further_than_a_backup_can_be_behind(
    repository: Repository, revision: int
) -> None:
    present = await repository.fleet.revision()

    with pytest.raises(LimitExceeded):
        await repository.fleet.go_on_above(revision, engine_id="engine-0")
    with pytest.raises(LimitExceeded):
        await repository.fleet.record_report(a_report(revision=revision))

    assert await repository.fleet.revision() == present
    assert await repository.fleet.engines() == []
    assert await trail(repository, "registry_restored") == []


async def test_lifts_end_far_below_what_json_readers_hold(repository: Repository) -> None:
    async def near_the_end(unit: Unit) -> None:
        unit.fleet.revision = MAX_LIFTED - LEAP - 10

    await repository.fleet._sessions.write(near_the_end)

    with pytest.raises(LimitExceeded):
        await repository.fleet.go_on_above(MAX_LIFTED - LEAP + 1, engine_id="engine-0")
    assert await repository.fleet.go_on_above(MAX_LIFTED - LEAP, engine_id="engine-0")

    assert await repository.fleet.revision() == MAX_LIFTED + 1
