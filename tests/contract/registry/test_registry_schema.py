"""Migrations, durability settings and outages, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from serving.controller.errors import AlreadyExists, RegistryIncompatible, RegistryUnavailable
from serving.controller.registry.repository import Repository
from serving.controller.registry.snapshot_rows import TOKENS
from serving.controller.registry.tables import Base
from serving.controller.registry.transactions import Unit
from tests.builders.registry import Clock


async def test_the_migrations_make_exactly_the_tables(repository: Repository) -> None:
    def compare(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))

    async with repository.sessions.engine.connect() as connection:
        assert await connection.run_sync(compare) == []


async def test_replicas_that_start_together_migrate_once(database_url: str) -> None:
    replicas = [Repository(database_url, clock=Clock()) for _ in range(4)]

    await asyncio.gather(*(replica.prepare() for replica in replicas))

    assert [await replica.fleet.revision() for replica in replicas] == [0] * 4
    await replicas[0].prepare()
    for replica in replicas:
        await replica.close()


async def test_a_newer_schema_is_refused_and_left_alone(repository: Repository) -> None:
    async with repository.sessions.writing_engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(RegistryIncompatible) as caught:
        await repository.prepare()

    assert caught.value.fields["found"] == "9999"


async def test_a_backup_of_before_the_rows_tokens_is_migrated_where_they_were_known(
    repository: Repository,
) -> None:
    """`pg_restore --clean` leaves in the database what the backup does not know."""
    on_table = " ON versions" if repository.sessions.engine.dialect.name == "postgresql" else ""
    async with repository.sessions.writing_engine.begin() as connection:
        await connection.execute(text("DROP INDEX ix_versions_held"))
        await connection.execute(text(f"DROP TRIGGER loraplane_row_token{on_table}"))
        await connection.execute(text("ALTER TABLE versions DROP COLUMN row_token"))
        await connection.execute(text("ALTER TABLE fleets DROP COLUMN revision_token"))
        await connection.execute(text("UPDATE alembic_version SET version_num = '0006'"))

    await repository.prepare()

    assert (await repository.fleet.snapshot_rows()).versions == []


async def test_what_a_snapshot_asks_of_every_version_is_read_from_an_index_alone(
    repository: Repository,
) -> None:
    if repository.sessions.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL plans by the sizes of tables, and reads an empty one")
    asked = TOKENS.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    async with repository.sessions.read() as session:
        plan = await session.execute(text(f"EXPLAIN QUERY PLAN {asked}"))
        steps = [row[-1] for row in plan if "versions" in row[-1]]

    assert steps
    assert all("USING COVERING INDEX ix_versions_held" in step for step in steps)


async def test_what_is_written_is_there_after_opening_again(
    repository: Repository, database_url: str
) -> None:
    again = Repository(database_url, clock=Clock())

    assert [row.id for row in await again.tenants.all()] == ["acme"]

    await again.close()


async def test_half_of_a_character_in_a_model_s_answer_is_kept_as_it_is(
    repository: Repository,
) -> None:
    evidence = {"\ud800": "\udc00 and no more"}

    async def work(unit: Unit) -> None:
        unit.audit("shown", "acme/support@1", actor="controller", evidence=evidence)

    await repository.sessions.write(work)

    page = await repository.audit.latest(subject="acme/support@1")
    assert [row.evidence for row in page] == [evidence]


async def test_sqlite_keeps_what_it_acknowledges(repository: Repository) -> None:
    if repository.sessions.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL is durable by its own settings")
    async with repository.sessions.engine.connect() as connection:
        values = [
            (await connection.execute(text(f"PRAGMA {name}"))).scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]

    assert values == ["wal", 2, 1]


async def test_a_write_that_fails_leaves_nothing(repository: Repository) -> None:
    async def broken(unit: object) -> None:
        unit.bump()  # type: ignore[attr-defined]
        raise RuntimeError("in the middle")

    before = await repository.fleet.revision()
    with pytest.raises(RuntimeError):
        await repository.sessions.write(broken)

    assert await repository.fleet.revision() == before


async def test_a_database_that_does_not_answer_is_unavailable_not_empty(tmp_path: Path) -> None:
    for url in (
        "postgresql+asyncpg://postgres@127.0.0.1:1/none",
        f"sqlite+aiosqlite:///{tmp_path}/absent/file.sqlite",
    ):
        repository = Repository(url, clock=Clock())

        with pytest.raises(RegistryUnavailable):
            await repository.prepare()
        with pytest.raises(RegistryUnavailable):
            await repository.tenants.all()
        await repository.close()


class Deadlock(Exception):
    """As the driver tells of it."""

    sqlstate = "40P01"


async def test_a_write_that_the_database_breaks_off_is_made_again(
    repository: Repository,
) -> None:
    tries = 0

    async def work(unit: Unit) -> int:
        nonlocal tries
        tries += 1
        unit.bump()
        if tries < 3:
            raise OperationalError("UPDATE", {}, Deadlock())
        return unit.fleet.revision

    before = await repository.fleet.revision()

    assert await repository.sessions.write(work) == before + 1
    assert tries == 3
    assert await repository.fleet.revision() == before + 1


async def test_a_write_that_always_breaks_off_ends_as_unavailable(
    repository: Repository,
) -> None:
    async def work(_unit: Unit) -> None:
        raise OperationalError("UPDATE", {}, Deadlock())

    with pytest.raises(RegistryUnavailable):
        await repository.sessions.write(work)


async def test_an_error_that_trying_again_cannot_mend_is_not_tried_again(
    repository: Repository,
) -> None:
    tries = 0

    async def work(unit: Unit) -> None:
        nonlocal tries
        tries += 1
        await unit.session.execute(text("SELECT * FROM no_such_table"))

    with pytest.raises(RegistryUnavailable):
        await repository.sessions.write(work)

    assert tries == 1


async def test_listeners_hear_of_commits_and_of_nothing_else(repository: Repository) -> None:
    heard: list[int] = []
    repository.sessions.listen(heard.append)

    await repository.tenants.create("globex", display_name="G", actor="root")
    with pytest.raises(AlreadyExists):
        await repository.tenants.create("globex", display_name="G", actor="root")

    assert heard == [await repository.fleet.revision()]
