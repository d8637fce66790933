"""A server of one session: started from a command, ended with all its children."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.errors import RunnerUnreachable
from adapters.parity.runners.openai_http import Deployment

_POLL_SECONDS = 0.25
_TERM_SECONDS = 30.0
_LOG_TAIL_BYTES = 2000


class Server:
    """A running process and where it listens."""

    def __init__(self, process: asyncio.subprocess.Process, *, url: str, log: Path) -> None:
        self.url = url
        self._process, self._log = process, log

    @property
    def pid(self) -> int:
        """Its process id; also the id of the group that its children are in."""
        return self._process.pid

    async def wait_ready(self, deployment: Deployment, *, seconds: float) -> None:
        """Until it lists its models.

        Raises:
            RunnerUnreachable: it ended, or did not within `seconds`; with the end of its log.
        """
        try:
            async with asyncio.timeout(seconds):
                while not await deployment.is_ready():
                    if self._process.returncode is not None:
                        reason = f"ended with status {self._process.returncode}: {self._tail()}"
                        raise RunnerUnreachable(url=self.url, reason=reason)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as exc:
            reason = f"not ready within {seconds:g} s: {self._tail()}"
            raise RunnerUnreachable(url=self.url, reason=reason) from exc

    def _tail(self) -> str:
        return self._log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace")


@asynccontextmanager
async def running_server(
    command: Sequence[str], *, values: Mapping[str, str], log: Path
) -> AsyncIterator[Server]:
    """Start `command` with `values` and a free `{port}` filled in; end it afterwards.

    Raises:
        RunnerUnreachable: the command cannot be started.
    """
    port = _free_port()
    filled = [_fill(word, {**values, "port": str(port)}) for word in command]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as output:
        try:
            process = await asyncio.create_subprocess_exec(
                *filled,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # a group of its own: its children end with it
            )
        except OSError as exc:
            raise RunnerUnreachable(url=url, reason=f"cannot be started: {exc}") from exc
    try:
        yield Server(process, url=url, log=log)
    finally:
        await asyncio.shield(asyncio.ensure_future(_end(process)))


def _fill(word: str, values: Mapping[str, str]) -> str:
    # Not str.format: a command may hold braces of its own (JSON options).
    for name, value in values.items():
        word = word.replace("{" + name + "}", value)
    return word


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def _end(process: asyncio.subprocess.Process) -> None:
    _signal(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _TERM_SECONDS)
    # Children may outlive the process that was asked to end: the whole group goes.
    _signal(process.pid, signal.SIGKILL)
    await process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
