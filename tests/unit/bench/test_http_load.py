"""What a load client is told, and what is made of what it tells."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import http_load
from bench.http_load import Loaded, LoadFailed, Request, body_length, parse_wrk, wrk_script

REQUEST = Request("http://127.0.0.1:1/v1", "sk-1", b'{"model": "a \\"b\\"\\n"}')


def test_a_script_sends_body_and_key_as_they_are() -> None:
    script = wrk_script(REQUEST)

    assert f"wrk.body = {json.dumps(REQUEST.body.decode())}\n" in script
    assert 'wrk.headers["Authorization"] = "Bearer sk-1"\n' in script


@given(st.integers(1, 10**6), st.integers(1, 10**8), st.floats(0, 1e6), st.floats(0, 1e6))
def test_what_wrk_tells_is_read_back(n: int, us: int, p50: float, p99: float) -> None:
    told = json.dumps({"n": n, "us": us, "p50": p50, "p99": p99, "failed": 0})

    loaded = parse_wrk(f"Running 1s test\n  Requests/sec: 7\n{told}\n", "url")

    assert loaded == Loaded(n, us / 1e6, p50, p99)
    assert loaded.requests_per_second == pytest.approx(n / us * 1e6)


@pytest.mark.parametrize(
    "output",
    [
        "unable to connect",
        '{"n": 0, "us": 1000, "p50": 0, "p99": 0, "failed": 0}',
        '{"n": 9, "us": 1000, "p50": 0, "p99": 0, "failed": 1}',
    ],
)
def test_no_answer_or_a_bad_one_is_no_measurement(output: str) -> None:
    with pytest.raises(LoadFailed, match="url"):
        parse_wrk(output, "url")


def test_a_head_tells_the_length_of_a_good_answer_alone() -> None:
    assert body_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n") == 12
    with pytest.raises(LoadFailed, match="401"):
        body_length(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 12\r\n\r\n")
    with pytest.raises(LoadFailed, match="wrk"):
        body_length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")


def test_without_wrk_an_own_client_asks_on_every_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.http_load.shutil.which", lambda _name: None)
    seen: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                seen.append(head + await reader.readexactly(len(REQUEST.body)))
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()

    async def run() -> Loaded:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            request = Request(f"http://127.0.0.1:{port}/v1", REQUEST.key, REQUEST.body)
            return await asyncio.to_thread(http_load.offer, request, connections=2, seconds=0.05)

    loaded = asyncio.run(run())

    assert http_load.client_name() == "own"
    assert loaded.n_requests == len(seen) >= 2
    assert 0 < loaded.p50_us <= loaded.p99_us
    assert all(
        b"Authorization: Bearer sk-1\r\n" in one and one.endswith(REQUEST.body) for one in seen
    )
