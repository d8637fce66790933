from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from serving.controller.registry.repository import Repository
from tests.builders.postgres import empty_database, find_postgres, run_postgres
from tests.builders.registry import Clock


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    if find_postgres() is None:
        pytest.skip("no PostgreSQL server binaries on this machine")
    with run_postgres() as url:
        yield url


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'registry.sqlite'}"
    return await empty_database(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def repository(database_url: str, clock: Clock) -> AsyncIterator[Repository]:
    repository = Repository(database_url, clock=clock)
    await repository.prepare()
    await repository.tenants.create("acme", display_name="Acme", actor="root")
    yield repository
    await repository.close()
