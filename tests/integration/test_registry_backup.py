"""The commands of docs/operations.md that save and restore a registry, run as they stand there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders.controller import Controller, a_controller
from tests.builders.operations_page import commands
from tests.builders.postgres import empty_database, find_postgres, run_postgres

PAGE_URL = "postgresql://loraplane:PASSWORD@postgres.example.com/loraplane"


async def tenants(controller: Controller) -> set[str]:
    answer = await (await controller.client()).get("/v1/tenants")
    return {tenant["id"] for tenant in answer.json()["tenants"]}


async def add(controller: Controller, tenant: str) -> None:
    answer = await (await controller.client()).post("/v1/tenants", json={"id": tenant})
    assert answer.status_code == 201, answer.text


def code_in_the_pod(what: str) -> str:
    """The Python text of the page's command that runs in the controller's pod."""
    (text,) = {
        command.words[-1]
        for command in commands("kubectl")
        if "import sqlite3" in command.words[-1] and what in command.words[-1]
    }
    return text


def run_in_the_pod(code: str, *, data: Path, tmp: Path) -> None:
    """As the pod's Python would, with its two folders elsewhere."""
    here = code.replace("'/tmp/", f"'{tmp}/").replace("/var/lib/loraplane/", f"{data}/")
    done = subprocess.run([sys.executable, "-c", here], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def test_a_sqlite_registry_is_saved_and_restored_while_its_controller_runs(
    tmp_path: Path,
) -> None:
    data, tmp = tmp_path / "data", tmp_path / "tmp"
    tmp.mkdir()
    async with a_controller(data) as controller:
        await add(controller, "acme")
        run_in_the_pod(code_in_the_pod("source.backup"), data=data, tmp=tmp)
        await add(controller, "later")
        assert await tenants(controller) == {"acme", "later"}

        run_in_the_pod(code_in_the_pod("timeout=60"), data=data, tmp=tmp)

    async with a_controller(data) as restarted:
        assert await tenants(restarted) == {"acme"}
        await add(restarted, "new")
        assert await tenants(restarted) == {"acme", "new"}


@pytest.mark.postgres
@pytest.mark.skipif(find_postgres() is None, reason="no PostgreSQL server here")
async def test_a_postgresql_registry_is_saved_and_restored(tmp_path: Path) -> None:
    with run_postgres() as server:
        url = await empty_database(server)
        async with a_controller(tmp_path / "one", database_url=url) as controller:
            await add(controller, "acme")
            run_on_a_server("pg_dump", url, tmp_path)
            await add(controller, "later")

        # The page stops the controllers first.
        run_on_a_server("pg_restore", url, tmp_path)

        async with a_controller(tmp_path / "two", database_url=url) as restarted:
            assert await tenants(restarted) == {"acme"}


def run_on_a_server(program: str, url: str, folder: Path) -> None:
    """The page's command of that name, for another server; its file lies in `folder`."""
    (command,) = commands(program)
    binaries = find_postgres()
    assert binaries is not None
    found = (
        binaries / program if (binaries / program).exists() else Path(shutil.which(program) or "")
    )
    words = [word.replace(PAGE_URL, url.replace("+asyncpg", "")) for word in command.words[1:]]
    done = subprocess.run(
        [str(found), *words], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
