"""A line between a client and a server that a test can cut, silence and mend."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class BrokenLine:
    """Forwards TCP connections; `cut` ends them, `silence` keeps them open and passes nothing."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._links: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._passes = asyncio.Event()
        self._passes.set()
        self._is_cut = False
        self.port = 0
        """Where the line begins."""

    async def open(self) -> None:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """End it all."""
        self.cut()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    def cut(self) -> None:
        """End every connection, and each new one at once."""
        self._is_cut = True
        self.drop()

    def drop(self) -> None:
        """End every connection; new ones work."""
        for link in self._links:
            link.cancel()

    def silence(self) -> None:
        """Connections stay open, new ones are taken, and not a byte passes."""
        self._passes.clear()

    def mend(self) -> None:
        """Work again."""
        self._is_cut = False
        self._passes.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        try:
            if not self._is_cut:
                await self._join(reader, writer)
        except (asyncio.CancelledError, OSError):
            # A cut line is what this is for.
            pass
        finally:
            self._links.discard(link)
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._target)
        ways = [
            asyncio.create_task(self._pass_on(reader, far_writer)),
            asyncio.create_task(self._pass_on(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            await self._passes.wait()
            writer.write(chunk)
            await writer.drain()


@contextlib.asynccontextmanager
async def broken_line(host: str, port: int) -> AsyncIterator[BrokenLine]:
    """A line to this server; it works until it is told otherwise."""
    line = BrokenLine(host, port)
    await line.open()
    try:
        yield line
    finally:
        await line.close()
