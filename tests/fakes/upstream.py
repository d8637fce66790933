"""An engine as a load balancer sees it: /ready, answers, refusals, streams and broken connections.

Raw HTTP/1.1 on a socket, because what matters here is what no web server does on purpose: to close
a connection before, or in the middle of, an answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Seen:
    """A request that arrived whole."""

    path: str
    headers: dict[str, str]
    n_body_bytes: int


@dataclass
class Upstream:
    """One fake engine; a test turns its switches while it runs."""

    name: str
    address: str
    port: int
    is_ready: bool = True
    refusals_left: int = 0
    """Next requests that get 503 with Retry-After."""
    drops_left: int = 0
    """Next requests whose connection is closed without an answer."""
    seen: list[Seen] = field(default_factory=list)
    in_flight: int = 0
    gate: asyncio.Semaphore | None = None
    """With one, each piece of a stream waits for a `release()` of the test."""
    _connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = field(default_factory=dict)
    _server: asyncio.Server | None = None

    def hold(self) -> asyncio.Semaphore:
        """From now on every answer waits for the test, piece by piece."""
        self.gate = asyncio.Semaphore(0)
        return self.gate

    async def listen(self, sock: socket.socket | None = None) -> None:
        """Take connections, on a bound socket or anew on the same address."""
        if sock is None:
            sock = bound(self.address, self.port)
        self._server = await asyncio.start_server(self._connection, sock=sock)

    async def close(self) -> None:
        """Stop listening, and cut every connection, as a killed process does."""
        assert self._server is not None
        self._server.close()
        connections = dict(self._connections)
        for writer, task in connections.items():
            writer.transport.abort()
            task.cancel()
        await asyncio.gather(*connections.values(), return_exceptions=True)
        await self._server.wait_closed()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[writer] = task
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            del self._connections[writer]
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split(" ")[1]
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        if path == "/ready":
            await self._whole(writer, 200 if self.is_ready else 503, b"{}")
            return True
        body = await _body(reader, headers)
        self.seen.append(Seen(path, headers, len(body)))
        self.in_flight += 1
        try:
            return await self._answer(writer, json.loads(body or b"{}"))
        finally:
            self.in_flight -= 1

    async def _answer(self, writer: asyncio.StreamWriter, asked: dict[str, object]) -> bool:
        if self.drops_left:
            self.drops_left -= 1
            return False
        if self.refusals_left:
            self.refusals_left -= 1
            refusal = json.dumps({"error": {"code": "draining", "by": self.name}}).encode()
            await self._whole(writer, 503, refusal, "retry-after: 1\r\n")
            return True
        if "stream" in asked:
            return await self._stream(writer, int(str(asked["stream"])), asked.get("break_after"))
        await self._turn()
        await self._whole(writer, 200, json.dumps({"by": self.name}).encode())
        return True

    async def _stream(self, writer: asyncio.StreamWriter, n: int, break_after: object) -> bool:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        writer.write(head + b"transfer-encoding: chunked\r\n\r\n")
        for index in range(n):
            if index == break_after:
                return False
            piece = f"data: {self.name} {index}\n\n".encode()
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()
            await self._turn()
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _turn(self) -> None:
        if self.gate is not None:
            await self.gate.acquire()

    async def _whole(
        self, writer: asyncio.StreamWriter, status: int, body: bytes, extra: str = ""
    ) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n{extra}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    whole = b""
    while size := int((await reader.readline()).strip(), 16):
        whole += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return whole


def bound(address: str, port: int) -> socket.socket:
    """A listening socket; port 0: any free one."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def bound_together(addresses: tuple[str, ...]) -> list[socket.socket]:
    """A socket on each address, all with the same port, as pods have it."""
    while True:
        first = bound(addresses[0], 0)
        taken = [first]
        try:
            for address in addresses[1:]:
                taken.append(bound(address, first.getsockname()[1]))
        except OSError:
            for sock in taken:
                sock.close()
            continue
        return taken


@asynccontextmanager
async def upstreams(*addresses: str) -> AsyncIterator[list[Upstream]]:
    """Fake engines `engine-0`, `engine-1`, ... on one port of these loopback addresses."""
    made = [
        (Upstream(f"engine-{index}", address, sock.getsockname()[1]), sock)
        for index, (address, sock) in enumerate(
            zip(addresses, bound_together(addresses), strict=True)
        )
    ]
    for upstream, sock in made:
        await upstream.listen(sock)
    try:
        yield [upstream for upstream, _ in made]
    finally:
        for upstream, _ in made:
            await upstream.close()
