"""A PostgreSQL database of the benchmark's own on somebody's server."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine


@asynccontextmanager
async def own_database(server: str | None) -> AsyncIterator[str | None]:
    """A new, empty database for as long as the block lasts; None where no server is named.

    `server`: URL of any of its databases (`postgresql+asyncpg://...`), for a role that may create
    others. What is in that one is left alone.

    Raises:
        OSError, sqlalchemy.exc.DBAPIError: the server cannot be reached, or refuses.
    """
    if server is None:
        yield None
        return
    name = f"loraplane_bench_{secrets.token_hex(6)}"
    await _run(server, f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        await _run(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


async def _run(server: str, statement: str) -> None:
    """Outside of a transaction: PostgreSQL makes and drops databases nowhere else."""
    engine = create_async_engine(server, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    finally:
        await engine.dispose()
