"""A controller process of its own on 127.0.0.1, and what it costs: processor, memory, database."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import httpx
from sqlalchemy.engine import make_url

SECRET = "bench-cluster-secret"  # noqa: S105 - of a controller that lives for a measurement
ADMIN = "bench-admin-token"
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class ControllerFailed(RuntimeError):
    """The controller did not start; the text is the end of its log."""


@dataclass(frozen=True, slots=True)
class RunningController:
    """One controller process."""

    url: str
    pid: int
    folder: Path
    database_url: str

    def cpu_seconds(self) -> float:
        """Processor time since it started, of all its threads."""
        return cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        """Its memory that is in RAM at present."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE

    async def database_bytes(self) -> int:
        """Pages that the SQLite database has, or what PostgreSQL says of its own."""
        url = make_url(self.database_url)
        if url.get_backend_name() == "sqlite":
            return _sqlite_bytes(str(url.database))
        connection = await asyncpg.connect(self.database_url.replace("+asyncpg", ""))
        try:
            return int(await connection.fetchval("select pg_database_size(current_database())"))
        finally:
            await connection.close()


def _sqlite_bytes(path: str) -> int:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        pages, size = (
            int(connection.execute(f"pragma {name}").fetchone()[0])
            for name in ("page_count", "page_size")
        )
    return pages * size


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


@contextmanager
def running_controller(
    folder: Path, *, model: Path | None = None, database_url: str | None = None
) -> Iterator[RunningController]:
    """Start one on a free port with its data in `folder`, and end it.

    Raises:
        ControllerFailed: it ended, or was not ready within a minute.
    """
    port = _free_port()
    own = {
        "LORAPLANE_DATA_DIR": str(folder),
        "LORAPLANE_CONTROLLER_PORT": str(port),
        "LORAPLANE_ADMIN_TOKEN": ADMIN,
        "LORAPLANE_CLUSTER_SECRET": SECRET,
        "LORAPLANE_LOG_LEVEL": "warning",
    }
    if model is not None:
        own["LORAPLANE_MODEL"] = str(model)
    if database_url is not None:
        own["LORAPLANE_DATABASE_URL"] = database_url
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LORAPLANE_")}
    with (folder / "controller.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "serving.cli", "controller"],
            env={**kept, **own},
            stdout=log,
            stderr=log,
        )
    url = f"http://127.0.0.1:{port}"
    sqlite = f"sqlite+aiosqlite:///{folder.resolve() / 'registry.sqlite'}"
    try:
        _wait_ready(process, url, folder / "controller.log")
        yield RunningController(url, process.pid, folder, database_url or sqlite)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{url}/readyz", trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.25)
    raise ControllerFailed(log.read_text()[-2000:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
