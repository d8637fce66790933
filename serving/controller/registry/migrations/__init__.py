"""Bring the registry's schema up to date at start, one replica at a time.

SQLite: BEGIN IMMEDIATE holds others off. PostgreSQL: an advisory lock for the transaction.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from serving.controller.errors import RegistryIncompatible
from serving.controller.registry.transactions import Sessions

_LOCK = 0x10A_91A_8E
"""Key of PostgreSQL's advisory lock; arbitrary, ours alone."""


async def migrate(sessions: Sessions) -> None:
    """Run every migration that this database has not seen, in one transaction.

    Raises:
        RegistryIncompatible: the database's schema is newer than this package.
        RegistryUnavailable: the database did not answer.
    """

    async def attempt() -> None:
        async with sessions.writing_engine.connect() as connection:
            await connection.run_sync(_migrate)
            await connection.commit()

    await sessions.retried(attempt)


def _migrate(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    directory = ScriptDirectory.from_config(config)
    found, head = (
        MigrationContext.configure(connection).get_current_revision(),
        directory.get_current_head(),
    )
    if found == head:
        return
    if found is not None and not _is_known(directory, found):
        raise RegistryIncompatible(found=found, wanted=str(head))
    command.upgrade(config, "head")


def _is_known(directory: ScriptDirectory, revision: str) -> bool:
    try:
        return directory.get_revision(revision) is not None
    except CommandError:
        return False
