"""The reference protocol over TCP: who is there is proved first, in both directions.

Each side proves that it knows the token by an HMAC over both sides' nonces and its own role, so the
token is never sent, a recorded proof is worth nothing, and a proof cannot be sent back to its
maker. What follows is authenticated by the connection alone and is not encrypted.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import secrets
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from adapters.parity.reference_channel import LINE_LIMIT_BYTES, ChannelBroken, LineTooLong

DEFAULT_PORT = 8600
PROTOCOL = "loraplane-reference/1"
HANDSHAKE_SECONDS = 10.0
"""Longest time for the proofs; arbitrary, far above a slow network's round trips."""
_HELLO_LIMIT_BYTES = 1024
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 6))
"""A machine that vanished without a word is noticed after 90 seconds."""
_Value = TypeVar("_Value", bound="_Hello | _Proof")


class ProofRefused(Exception):
    """The other side did not prove that it knows the token, or speaks something else."""


class _Hello(msgspec.Struct, frozen=True):
    protocol: str
    nonce: str
    """The server's first line; `nonce` is 64 hex digits."""


class _Proof(msgspec.Struct, frozen=True, omit_defaults=True):
    proof: str
    nonce: str = ""


class SocketChannel:
    """One authenticated TCP connection, of either side; see `Channel`."""

    pid: int | None = None

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._buffer = bytearray()
        # Somebody unknown may not fill our memory.
        self.limit_bytes = _HELLO_LIMIT_BYTES

    @property
    def is_open(self) -> bool:
        """False once the other side has closed, or this side has."""
        return not self._reader.at_eof() and not self._writer.is_closing()

    async def write_line(self, line: bytes) -> None:
        """Send one line, without its end.

        Raises:
            ChannelBroken: the connection is gone.
        """
        if self._writer.is_closing():
            raise ChannelBroken
        try:
            self._writer.write(line + b"\n")
            await self._writer.drain()
        except OSError as exc:
            raise ChannelBroken from exc

    async def read_line(self) -> bytes:
        """The next line, its end included.

        Raises:
            ChannelBroken: the connection ended before the line did.
            LineTooLong: it is longer than `limit_bytes`.
        """
        n_searched = 0
        while (end := self._buffer.find(b"\n", n_searched)) < 0:
            n_searched = len(self._buffer)
            if n_searched > self.limit_bytes:
                raise LineTooLong
            self._buffer += await self._read_some()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    async def _read_some(self) -> bytes:
        try:
            chunk = await self._reader.read(65_536)
        except OSError as exc:  # a reset, or a network's timeout
            raise ChannelBroken from exc
        if not chunk:
            raise ChannelBroken
        return chunk

    async def explain_end(self) -> str:
        """A clause for an error; who started the process may know more."""
        return "the connection ended"

    async def log_tail(self) -> str:
        """Empty: a connection has no log."""
        return ""

    async def end(self) -> None:
        """Close at once; what was not sent yet is dropped."""
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def connect(host: str, port: int, *, token: str) -> SocketChannel:
    """Open a connection to a reference server and prove each other.

    Raises:
        ChannelBroken: nobody listens there, or the connection ended.
        ProofRefused: it is no reference server, or one with another token.
    """
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            reader, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError) as exc:
        raise ChannelBroken from exc
    return await _proved(SocketChannel(reader, writer), writer, lambda it: _as_client(it, token))


async def accept(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, token: str
) -> SocketChannel:
    """The server's half of `connect`.

    Raises:
        ChannelBroken: the connection ended, as that of a port probe does.
        ProofRefused: the other side does not know the token, or speaks something else.
    """
    return await _proved(SocketChannel(reader, writer), writer, lambda it: _as_server(it, token))


async def _proved(
    channel: SocketChannel,
    writer: asyncio.StreamWriter,
    prove: Callable[[SocketChannel], Awaitable[None]],
) -> SocketChannel:
    is_proved = False
    try:
        _keep_alive(writer)
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await prove(channel)
        channel.limit_bytes = LINE_LIMIT_BYTES
        is_proved = True
    except TimeoutError as exc:
        raise ProofRefused("no proof in time") from exc
    except OSError as exc:
        raise ChannelBroken from exc
    except LineTooLong as exc:
        raise ProofRefused("its first words are too long") from exc
    finally:
        if not is_proved:
            await channel.end()
    return channel


async def _as_client(channel: SocketChannel, token: str) -> None:
    hello = await _read(channel, _Hello)
    if hello.protocol != PROTOCOL:
        raise ProofRefused(f"it speaks {hello.protocol!r}, not {PROTOCOL!r}")
    nonce = secrets.token_hex(32)
    nonces = (hello.nonce, nonce)
    await _write(channel, _Proof(_proof(token, "client", *nonces), nonce))
    try:
        answer = await _read(channel, _Proof)
    except ChannelBroken as exc:
        # It hung up on our proof: that is how a server refuses.
        raise ProofRefused("it did not accept this token") from exc
    _check(answer.proof, _proof(token, "server", *nonces))


async def _as_server(channel: SocketChannel, token: str) -> None:
    nonce = secrets.token_hex(32)
    await _write(channel, _Hello(PROTOCOL, nonce))
    answer = await _read(channel, _Proof)
    nonces = (nonce, answer.nonce)
    _check(answer.proof, _proof(token, "client", *nonces))
    await _write(channel, _Proof(_proof(token, "server", *nonces)))


async def _read(channel: SocketChannel, kind: type[_Value]) -> _Value:
    line = await channel.read_line()
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError) as exc:
        raise ProofRefused("it speaks another protocol") from exc


async def _write(channel: SocketChannel, message: _Hello | _Proof) -> None:
    await channel.write_line(msgspec.json.encode(message))


def _proof(token: str, role: str, server_nonce: str, client_nonce: str) -> str:
    text = "\n".join((PROTOCOL, role, server_nonce, client_nonce))
    return hmac.new(token.encode(), text.encode(), hashlib.sha256).hexdigest()


def _check(given: str, wanted: str) -> None:
    if not hmac.compare_digest(given.encode(), wanted.encode()):
        raise ProofRefused("its proof is wrong")


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
