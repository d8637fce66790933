"""Connections are used again, given up when they are old or broken, and never share an answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from serving.tuning.connection import ConnectionLost, Connections, Exchange, Origin

Script = Callable[[int, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@asynccontextmanager
async def server(script: Script) -> AsyncIterator[tuple[Connections, list[int]]]:
    """Answers each request with the script; the list has each request's connection's number."""
    seen: list[int] = []
    n_connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal n_connections
        n_connections += 1
        own = n_connections
        while await _request(reader):
            seen.append(own)
            await script(len(seen), writer)
        writer.close()

    served = await asyncio.start_server(serve, "127.0.0.1", 0)
    connections = Connections(Origin("127.0.0.1", served.sockets[0].getsockname()[1], False))
    try:
        yield connections, seen
    finally:
        connections.close()
        served.close()
        await served.wait_closed()


async def _request(reader: asyncio.StreamReader) -> bool:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-length: 4" in head.lower()
        return await reader.readexactly(4) == b"body"
    except (asyncio.IncompleteReadError, ConnectionError):
        return False


async def post(connections: Connections) -> tuple[int, bytes]:
    content = bytearray()
    exchange = Exchange("/v1", [("X", "y")], b"body", lambda _, piece: content.extend(piece))
    await connections.post(exchange)
    return exchange.status, bytes(content)


async def whole(_number: int, writer: asyncio.StreamWriter) -> None:
    writer.write(CHUNKED)


async def test_an_idle_connection_is_used_again() -> None:
    async with server(whole) as (connections, seen):
        answers = [await post(connections) for _ in range(3)]

    assert answers == [(200, b"abcde")] * 3
    assert seen == [1, 1, 1]


async def test_exchanges_at_one_time_have_connections_of_their_own() -> None:
    async with server(whole) as (connections, seen):
        answers = await asyncio.gather(*(post(connections) for _ in range(5)))

    assert answers == [(200, b"abcde")] * 5
    assert sorted(seen) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + CHUNKED,
        OK + b"Connection: close\r\n\r\nabcde",
    ],
    ids=["length", "hints", "close"],
)
async def test_an_answer_may_be_framed_as_http_allows(answer: bytes) -> None:
    async def script(_number: int, writer: asyncio.StreamWriter) -> None:
        for byte in answer:
            writer.write(bytes([byte]))
        if b"close" in answer:
            writer.close()

    async with server(script) as (connections, _):
        assert [await post(connections) for _ in range(2)] == [(200, b"abcde")] * 2


async def test_a_connection_that_its_server_closed_as_idle_costs_no_answer() -> None:
    async def script(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        # Its end arrives together with the next request, as in a race between the two.
        writer.transport.get_extra_info("socket").shutdown(1)

    async with server(script) as (connections, seen):
        first = await post(connections)
        second = await post(connections)

    assert first == second == (200, b"abcde")
    assert seen[0] != seen[-1]


@pytest.mark.parametrize(
    "answer", [b"", CHUNKED[:-12], b"SMTP ready\r\n", OK + b"Content-Length: 9\r\n\r\nabc"], ids=str
)
async def test_an_answer_that_breaks_off_is_an_error_and_its_connection_gone(
    answer: bytes,
) -> None:
    async def script(_number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    async with server(script) as (connections, seen):
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                await post(connections)

    assert seen == [1, 2]


async def test_a_cancelled_exchange_leaves_no_connection_that_another_could_take() -> None:
    async def script(number: int, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED if number > 1 else CHUNKED[:-12])

    async with server(script) as (connections, seen):
        begun = asyncio.Event()
        exchange = Exchange("/v1", [("X", "y")], b"body", lambda *_: begun.set())
        leaving = asyncio.create_task(connections.post(exchange))
        await begun.wait()
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        answer = await post(connections)

    assert answer == (200, b"abcde")
    assert seen == [1, 2]
