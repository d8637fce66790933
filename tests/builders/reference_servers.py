"""Reference servers for tests: within this process, or as the real program."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from adapters.parity.reference_channel import ChannelBroken
from adapters.parity.reference_socket import SocketChannel, connect

HOST = "127.0.0.1"
TOKEN = "a-token-for-tests"


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


class ConnectingLauncher:
    """Connects to a server that somebody else runs; waits for it to listen."""

    shares_files = False

    def __init__(self, port: int, *, token: str = TOKEN, n_resends: int = 0) -> None:
        self._port, self._token = port, token
        self.n_resends = n_resends
        self.n_starts = 0

    async def start(self, on_waiting: object) -> SocketChannel:
        self.n_starts += 1
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(ChannelBroken):
                    return await connect(HOST, self._port, token=self._token)
                await asyncio.sleep(0.05)

    async def release(self) -> None:
        """The server is not this object's."""


@contextlib.asynccontextmanager
async def reference_server(
    port: int, store_url: str, scratch: Path, **env: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The real program with the real child, on the CPU with one thread."""
    settings: Mapping[str, str] = {
        **os.environ,
        "LORAPLANE_REFERENCE_TOKEN": TOKEN,
        "LORAPLANE_STORE_URL": store_url,
        "LORAPLANE_REFERENCE_HOST": HOST,
        "LORAPLANE_REFERENCE_PORT": str(port),
        "LORAPLANE_REFERENCE_DEVICE": "cpu",
        "LORAPLANE_REFERENCE_THREADS": "1",
        "LORAPLANE_REFERENCE_SCRATCH": str(scratch),
        **env,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapters.parity.reference_server", env=settings
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
