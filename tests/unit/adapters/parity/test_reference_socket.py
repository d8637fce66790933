"""Who may speak: both sides of the handshake, against right, wrong, silent and endless partners."""

import asyncio
import contextlib

import pytest

from adapters.parity import reference_socket
from adapters.parity.reference_channel import ChannelBroken, LineTooLong
from adapters.parity.reference_socket import ProofRefused, accept, connect

TOKEN = "right"


@contextlib.asynccontextmanager
async def listening(meet):
    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def serving(token=TOKEN):
    """The port of a server, and a queue of what became of each connection."""
    outcomes = asyncio.Queue()

    async def meet(reader, writer):
        try:
            outcomes.put_nowait(await accept(reader, writer, token=token))
        except (ProofRefused, ChannelBroken) as exc:
            outcomes.put_nowait(exc)

    async with listening(meet) as port:
        yield port, outcomes


async def test_two_that_know_the_token_exchange_lines():
    async with serving() as (port, outcomes):
        client = await connect("127.0.0.1", port, token=TOKEN)
        server = await outcomes.get()

        await client.write_line(b"a question")
        await server.write_line(b"one")
        await server.write_line(b"two")

        assert await server.read_line() == b"a question\n"
        assert [await client.read_line(), await client.read_line()] == [b"one\n", b"two\n"]
        await client.end()
        await server.end()


async def test_a_long_line_arrives_whole():
    line = b"x" * 1_000_000
    async with serving() as (port, outcomes):
        client = await connect("127.0.0.1", port, token=TOKEN)
        server = await outcomes.get()

        sending = asyncio.create_task(client.write_line(line))

        assert await server.read_line() == line + b"\n"
        await sending
        await client.end()
        await server.end()


async def test_a_line_beyond_the_limit_is_refused_instead_of_kept():
    async with serving() as (port, outcomes):
        client = await connect("127.0.0.1", port, token=TOKEN)
        server = await outcomes.get()
        server.limit_bytes = 100_000

        sending = asyncio.create_task(client.write_line(b"x" * 1_000_000))
        with pytest.raises(LineTooLong):
            await server.read_line()

        await server.end()
        with contextlib.suppress(ChannelBroken):
            await sending
        await client.end()


async def test_a_client_with_another_token_is_refused_by_the_server():
    async with serving() as (port, outcomes):
        with pytest.raises(ProofRefused, match="did not accept"):
            await connect("127.0.0.1", port, token="wrong")

        assert isinstance(await outcomes.get(), ProofRefused)


async def test_a_server_with_another_token_is_refused_by_the_client():
    """It lets anybody in, so only the client's own check is left."""

    async def meet(reader, writer):
        writer.write(b'{"protocol": "loraplane-reference/1", "nonce": "00"}\n')
        await reader.readline()
        writer.write(b'{"proof": "00"}\n')
        await reader.read()
        writer.close()

    async with listening(meet) as port:
        with pytest.raises(ProofRefused, match="proof is wrong"):
            await connect("127.0.0.1", port, token=TOKEN)


async def test_a_clients_own_proof_sent_back_is_no_proof():
    async def meet(reader, writer):
        writer.write(b'{"protocol": "loraplane-reference/1", "nonce": "00"}\n')
        writer.write(await reader.readline())
        await reader.read()
        writer.close()

    async with listening(meet) as port:
        with pytest.raises(ProofRefused, match="proof is wrong"):
            await connect("127.0.0.1", port, token=TOKEN)


async def test_a_recorded_proof_is_worth_nothing_a_second_time():
    recorded = []

    async def relay(reader, writer):
        """Records what a real client says to a real server."""
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(await server_reader.readline())
        recorded.append(await reader.readline())
        server_writer.write(recorded[0])
        writer.write(await server_reader.readline())

    async with serving() as (port, outcomes), listening(relay) as between:
        client = await connect("127.0.0.1", between, token=TOKEN)
        assert (await outcomes.get()).is_open  # the real one was let in

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(recorded[0])

        assert await reader.read() == b""
        assert isinstance(await outcomes.get(), ProofRefused)
        writer.close()
        await client.end()


async def test_the_token_is_never_on_the_wire():
    heard = bytearray()

    async def relay(reader, writer):
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", port)
        for source, target in ((server_reader, writer), (reader, server_writer)) * 2:
            line = await source.readline()
            heard.extend(line)
            target.write(line)

    async with serving("a-token-to-look-for") as (port, outcomes), listening(relay) as between:
        client = await connect("127.0.0.1", between, token="a-token-to-look-for")
        await client.write_line(b"hello")
        server = await outcomes.get()

        assert await server.read_line() == b"hello\n"
        assert b"hello" in heard
        assert b"a-token-to-look-for" not in heard
        await client.end()


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\n", b"\xff\xfe\n", b"{}\n", b"x" * 5000 + b"\n", b"x" * 200_000],
    ids=["http", "bytes", "nothing", "long", "endless"],
)
async def test_somebody_who_speaks_something_else_is_refused(words):
    async with serving() as (port, outcomes):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(words)

        assert isinstance(await outcomes.get(), ProofRefused)
        writer.close()

    async def meet(reader, writer):
        writer.write(words)
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with listening(meet) as port:
        with pytest.raises(ProofRefused):
            await connect("127.0.0.1", port, token=TOKEN)


async def test_silence_is_refused_after_a_while(monkeypatch):
    monkeypatch.setattr(reference_socket, "HANDSHAKE_SECONDS", 0.2)
    async with serving() as (port, outcomes):
        _, writer = await asyncio.open_connection("127.0.0.1", port)

        assert isinstance(await outcomes.get(), ProofRefused)
        writer.close()


async def test_a_probe_of_the_port_and_a_closed_port_are_broken_channels():
    async with serving() as (port, outcomes):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        assert isinstance(await outcomes.get(), ChannelBroken)
    with pytest.raises(ChannelBroken):
        await connect("127.0.0.1", port, token=TOKEN)


async def test_a_connection_that_ended_is_known_and_told():
    async with serving() as (port, outcomes):
        client = await connect("127.0.0.1", port, token=TOKEN)
        server = await outcomes.get()

        await server.end()

        with pytest.raises(ChannelBroken):
            await client.read_line()
        assert not client.is_open
        assert not server.is_open
        with pytest.raises(ChannelBroken):
            await server.write_line(b"late")
        await client.end()
