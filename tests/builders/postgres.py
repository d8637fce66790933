"""A private PostgreSQL server in a temporary folder, for the tests that run on both databases.

Starting it takes about two seconds; one serves a whole session, each test finds it empty.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

_FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if os.name == "posix" else []


def find_postgres() -> Path | None:
    """The folder of `initdb` and `postgres`, or None."""
    for folder in reversed(_FOLDERS):
        if (folder / "initdb").exists():
            return folder
    found = shutil.which("initdb")
    return Path(found).parent if found else None


@contextlib.contextmanager
def run_postgres() -> Iterator[str]:
    """Start a server, yield the URL of its databases (`.../`), stop it."""
    binaries = find_postgres()
    if binaries is None:
        raise FileNotFoundError("initdb")
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    as_user = _unprivileged(folder)
    data = folder / "data"
    port = _free_port()
    subprocess.run(
        [
            *as_user,
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-N",
        ],
        check=True,
        capture_output=True,
    )
    # Nothing here has to survive a crash of the machine.
    options = f"-F -c full_page_writes=off -h 127.0.0.1 -p {port} -k ''"
    control = [*as_user, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-s"]
    subprocess.run(
        [*control, "-o", options, "-l", folder / "log", "start"],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"postgresql+asyncpg://postgres@127.0.0.1:{port}/"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


async def empty_database(server_url: str) -> str:
    """The server's database without any table; its URL. A new one would cost 7 MB and 0.3 s."""
    connection = await asyncpg.connect(server_url.replace("+asyncpg", "") + "postgres")
    try:
        # A test that failed may have left a transaction open.
        await connection.execute("SET lock_timeout = '10s'")
        await connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    finally:
        await connection.close()
    return server_url + "postgres"


def _unprivileged(folder: Path) -> list[str]:
    if os.getuid() != 0:
        return []
    # initdb refuses root.
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["runuser", "-u", "postgres", "--"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
