"""A benchmark's own databases on a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator

import asyncpg  # type: ignore[import-untyped]
import pytest

from bench.control_plane.database import own_database
from tests.builders.postgres import find_postgres, run_postgres


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    if find_postgres() is None:
        pytest.skip("no PostgreSQL server binaries on this machine")
    with run_postgres() as url:
        yield url + "postgres"


async def names(url: str, query: str) -> set[str]:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return {row[0] for row in await connection.fetch(query)}
    finally:
        await connection.close()


async def databases(url: str) -> set[str]:
    return await names(url, "SELECT datname FROM pg_database")


async def test_each_block_has_an_empty_one_and_leaves_none_though_somebody_is_connected(
    server: str,
) -> None:
    before = await databases(server)
    left = []
    for _ in range(2):
        async with own_database(server) as url:
            assert url is not None
            left.append(await asyncpg.connect(url.replace("+asyncpg", "")))
            tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
            assert await names(url, tables) == set()
            await left[-1].execute("CREATE TABLE rows (n int)")
            assert len(await databases(server) - before) == 1

    assert await databases(server) == before
    for connection in left:
        connection.terminate()


async def test_a_block_that_fails_leaves_none(server: str) -> None:
    before = await databases(server)

    with pytest.raises(ZeroDivisionError):
        async with own_database(server):
            raise ZeroDivisionError

    assert await databases(server) == before


async def test_without_a_server_there_is_none() -> None:
    async with own_database(None) as url:
        assert url is None
