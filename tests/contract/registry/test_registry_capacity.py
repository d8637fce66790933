"""The same promises on SQLite and PostgreSQL: samples of counts, residency wishes, engines read."""

from __future__ import annotations

from pathlib import Path

import msgspec
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from serving.contract import AdapterCounts, EngineReport, EngineWishes
from serving.controller.capacity.sampling import Sample
from serving.controller.lifecycle import State
from serving.controller.registry import migrations
from serving.controller.registry.repository import Repository
from tests.builders.controller import a_report
from tests.builders.registry import Clock, a_version, an_upload

NAME = "acme/support@1"


def counted(requests: int, **more: int) -> EngineReport:
    counts = [AdapterCounts(name=NAME, requests=requests, **more)]
    return a_report(counts=counts, active=[NAME], hot={"1m": 1})


async def samples(repository: Repository) -> list[tuple[str, int, Sample]]:
    return [
        (engine, bucket, msgspec.json.decode(text, type=Sample))
        for engine, bucket, text in await repository.samples.since(0.0)
    ]


async def test_a_new_interval_keeps_what_was_counted_in_the_one_before(
    repository: Repository, clock: Clock
) -> None:
    for requests in (100, 103, 104):
        await repository.fleet.record_report(counted(requests))
        clock.advance(4)
    await repository.fleet.record_report(counted(110, loads_disk=2))

    ((engine, bucket, sample),) = await samples(repository)

    assert (engine, bucket) == ("engine-0", 1_700_000_000)
    assert sample.adapters == {NAME: [10, 2]}
    assert (sample.total, sample.active, sample.hot_1m) == ([10, 2, 0, 0, 0], [NAME], 1)


async def test_many_reports_of_one_interval_are_one_sample(
    repository: Repository, clock: Clock
) -> None:
    for turn in range(30):
        await repository.fleet.record_report(counted(turn))
        clock.advance(1)

    kept = await samples(repository)

    assert [bucket - 1_700_000_000 for _, bucket, _ in kept] == [0, 10]
    assert [sample.total[0] for _, _, sample in kept] == [10, 10]


async def test_samples_end_with_their_time(repository: Repository, clock: Clock) -> None:
    for turn in range(6):
        await repository.fleet.record_report(counted(turn), history_seconds=30.0)
        clock.advance(10)

    assert [bucket - 1_700_000_000 for _, bucket, _ in await samples(repository)] == [20, 30, 40]


async def test_an_engine_that_comes_back_after_it_was_forgotten_counts_anew(
    repository: Repository, clock: Clock
) -> None:
    await repository.fleet.record_report(counted(100))
    await repository.fleet.forget_engine("engine-0", actor="root")
    clock.advance(60)
    await repository.fleet.record_report(counted(7))

    assert await samples(repository) == []


async def test_a_report_is_seen_at_once_although_known_ones_are_not_read_again(
    repository: Repository,
) -> None:
    await repository.fleet.record_report(counted(1))
    (first,) = await repository.fleet.engines()
    (again,) = await repository.fleet.engines()
    await repository.fleet.record_report(counted(2))
    (second,) = await repository.fleet.engines()

    assert again is first
    assert [e.report.counts[0].requests for e in (first, second)] == [1, 2]


async def test_the_mode_is_never_set_at_first_and_audited_when_it_is(
    repository: Repository,
) -> None:
    assert await repository.residency.mode() is None

    assert await repository.residency.set_mode("off", before="auto", actor="ann")
    assert not await repository.residency.set_mode("off", before="auto", actor="ann")

    assert await repository.residency.mode() == "off"
    (row,) = await repository.audit.latest(subject="residency")
    assert (row.action, row.actor) == ("set_residency_mode", "ann")
    assert (row.from_state, row.to_state) == ("auto", "off")


async def test_wishes_are_a_new_revision_only_when_they_change(repository: Repository) -> None:
    await repository.fleet.record_report(a_report())
    assert await repository.residency.claim("one", lease_seconds=30)
    wish = {"engine-0": EngineWishes("engine-0", [NAME], {"acme": [NAME, "acme/sql@1"]})}
    before = await repository.fleet.revision()

    changed = [await repository.residency.put_wishes("one", wish) for _ in range(3)]

    assert changed == [True, False, False]
    assert await repository.fleet.revision() == before + 1
    assert await repository.residency.wishes() == wish
    assert [row.hot for row in (await repository.fleet.snapshot_rows()).wishes] == [[NAME]]


async def test_one_controller_at_a_time_has_wishes(repository: Repository, clock: Clock) -> None:
    await repository.fleet.record_report(a_report())
    wish = {"engine-0": EngineWishes("engine-0", [NAME])}

    assert await repository.residency.claim("one", lease_seconds=30)
    assert not await repository.residency.claim("two", lease_seconds=30)
    assert not await repository.residency.put_wishes("two", wish)
    clock.advance(31)
    assert await repository.residency.claim("two", lease_seconds=30)
    assert not await repository.residency.put_wishes("one", wish)
    assert await repository.residency.put_wishes("two", wish)


async def test_switching_off_takes_all_wishes_away_in_one_revision(
    repository: Repository,
) -> None:
    for engine in ("engine-0", "engine-1"):
        await repository.fleet.record_report(a_report(engine))
    await repository.residency.claim("one", lease_seconds=30)
    wishes = {e: EngineWishes(e, [NAME]) for e in ("engine-0", "engine-1")}
    await repository.residency.put_wishes("one", wishes)
    before = await repository.fleet.revision()

    await repository.residency.set_mode("off", before="auto", actor="ann")

    assert await repository.residency.wishes() == {}
    assert await repository.fleet.revision() == before + 1
    assert not await repository.residency.put_wishes("one", wishes)


async def test_a_forgotten_engine_has_no_wishes(repository: Repository) -> None:
    await repository.fleet.record_report(a_report())
    await repository.residency.claim("one", lease_seconds=30)
    wish = {"engine-0": EngineWishes("engine-0", [NAME])}
    await repository.residency.put_wishes("one", wish)
    before = await repository.fleet.revision()

    await repository.fleet.forget_engine("engine-0", actor="root")

    assert await repository.residency.wishes() == {}
    assert await repository.fleet.revision() == before + 1
    assert not await repository.residency.put_wishes("one", wish)


async def test_versions_come_as_a_table_and_its_stamp_moves_with_them(
    repository: Repository,
) -> None:
    before = await repository.capacity.stamp()
    await a_version(repository, an_upload(), until=State.LIVE)
    after = await repository.capacity.stamp()
    await a_version(repository, an_upload("two"), until=State.VALIDATING)

    live, new = await repository.capacity.version_facts()

    assert before < after < await repository.capacity.stamp()
    assert (live.name, live.state, live.is_live, live.verdict, live.rank) == (
        NAME, "live", True, "PASS", 8,
    )  # fmt: skip
    assert (new.name, new.state, new.is_live, new.verdict) == (
        "acme/support@2", "validating", False, None,
    )  # fmt: skip


async def test_the_oldest_of_a_state_is_told_and_0_where_there_is_none(
    repository: Repository, clock: Clock
) -> None:
    await a_version(repository, an_upload(), until=State.VALIDATING)
    clock.advance(20)
    await a_version(repository, an_upload("two"), until=State.VALIDATING)
    clock.advance(5)

    ages = await repository.versions.oldest_seconds(frozenset({State.VALIDATING, State.STAGING}))

    assert ages == {"validating": 25.0, "staging": 0.0}


async def test_engines_that_reported_before_the_upgrade_are_read_and_sampled_after_it(
    database_url: str, clock: Clock
) -> None:
    repository = Repository(database_url, clock=clock)

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(migrations.__file__).parent))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        report = msgspec.json.encode(counted(5)).decode()
        query = "INSERT INTO engines (id, report, seen_at, first_seen_at) VALUES (:id, :r, 1, 1)"
        connection.execute(text(query), {"id": "engine-0", "r": report})

    async with repository.sessions.writing_engine.connect() as connection:
        await connection.run_sync(upgrade)
        await connection.commit()

    await repository.prepare()

    (old,) = await repository.fleet.engines()
    assert old.report.counts[0].requests == 5
    for requests in (6, 9):
        clock.advance(10)
        await repository.fleet.record_report(counted(requests))
    assert [sample.total[0] for _, _, sample in await samples(repository)] == [3]
    assert (await repository.residency.mode(), await repository.residency.wishes()) == (None, {})
    await repository.close()
