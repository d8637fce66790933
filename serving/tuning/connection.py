"""HTTP/1.1 connections that hand over an answer's bytes at the moment they come out of the socket.

h11 frames the bytes; this adds sockets, and nothing that waits. Written for the generator, which
shares its machine with what it measures: through httpx an answer of 41 tokens took three times as
much of the processor (docs/load.md), and each token was timed after a change of tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import cast

import h11

_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 2.0
"""Below the 5 s after which uvicorn closes an idle connection."""


class ConnectionLost(Exception):
    """The server closed the connection within an answer, or what it sent is not HTTP."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom to connect to."""

    host: str
    port: int
    is_tls: bool

    @property
    def authority(self) -> str:
        """For the header Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(slots=True)
class Exchange:
    """One POST and its answer."""

    path: str
    headers: list[tuple[str, str]]
    body: bytes
    on_bytes: Callable[[int, bytes], None]
    """Gets the answer's status and its body, piece by piece as it comes."""
    status: int = 0
    """0: no answer yet."""


class Connections:
    """As many connections as exchanges at one time; an idle one is used again while it is young."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._idle: list[tuple[_Connection, float]] = []

    async def post(self, exchange: Exchange) -> None:
        """Send it now, whatever else is on; returns at the end of its answer.

        Raises:
            ConnectionLost: the answer broke off.
            OSError: nobody answers there.
        """
        idle = self._take()
        if idle is not None:
            try:
                await self._run(idle, exchange)
            except ConnectionLost:
                # Closed as idle, by a server that had not seen this yet. The time is not forgiven.
                if exchange.status:
                    raise
            else:
                return
        await self._run(await self._open(), exchange)

    def close(self) -> None:
        """Close the idle ones."""
        for connection, _ in self._idle:
            connection.close()
        self._idle.clear()

    async def _run(self, connection: _Connection, exchange: Exchange) -> None:
        try:
            await connection.run(exchange)
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable:
            self._idle.append((connection, monotonic()))
        else:
            connection.close()

    def _take(self) -> _Connection | None:
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_reusable and monotonic() - since < _IDLE_SECONDS:
                return connection
            connection.close()
        return None

    async def _open(self) -> _Connection:
        origin, loop = self._origin, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: _Connection(origin.authority),
                    origin.host,
                    origin.port,
                    ssl=True if origin.is_tls else None,
                )
        except TimeoutError as exc:
            raise OSError(f"no connection within {_CONNECT_SECONDS:g} s") from exc
        return connection


class _Connection(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self, authority: str) -> None:
        self._authority = authority
        self._http = h11.Connection(h11.CLIENT)
        self._transport: asyncio.Transport | None = None
        self._exchange: Exchange | None = None
        self._ended: asyncio.Future[None] | None = None

    async def run(self, exchange: Exchange) -> None:
        self._ended = asyncio.get_running_loop().create_future()
        self._exchange = exchange
        own = [("Host", self._authority), ("Content-Length", str(len(exchange.body)))]
        request = h11.Request(method="POST", target=exchange.path, headers=own + exchange.headers)
        head = self._http.send(request) or b""
        body = self._http.send(h11.Data(data=exchange.body)) or b""
        self._http.send(h11.EndOfMessage())
        if self._transport is not None:
            self._transport.write(head + body)
        await self._ended

    @property
    def is_reusable(self) -> bool:
        is_open = self._transport is not None and not self._transport.is_closing()
        return is_open and self._http.our_state is h11.IDLE

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._http.receive_data(data)
        self._read()

    def eof_received(self) -> None:
        # Some answers end with their connection.
        self._http.receive_data(b"")
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(ConnectionLost(str(exc) if exc else "the server closed the connection"))

    def _read(self) -> None:
        try:
            while self._take_event():
                pass
        except h11.RemoteProtocolError as exc:
            self._end(ConnectionLost(str(exc)))
            self.close()

    def _take_event(self) -> bool:
        """Whether there may be another one."""
        event = self._http.next_event()
        if isinstance(event, h11.Data):
            if self._exchange is not None:
                self._exchange.on_bytes(self._exchange.status, bytes(event.data))
            return True
        if isinstance(event, h11.Response):
            if self._exchange is not None:
                self._exchange.status = event.status_code
            return True
        if isinstance(event, h11.EndOfMessage):
            if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                self._http.start_next_cycle()
            self._end(None)
            return False
        return isinstance(event, h11.InformationalResponse)

    def _end(self, problem: ConnectionLost | None) -> None:
        if self._ended is None or self._ended.done():
            return
        if problem is None:
            self._ended.set_result(None)
        else:
            self._ended.set_exception(problem)
