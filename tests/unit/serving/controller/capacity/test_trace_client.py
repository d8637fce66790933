from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from serving.contract import TracePage, engine_token
from serving.controller.capacity import trace_client
from serving.controller.capacity.trace_client import TraceClient
from serving.controller.errors import TraceUnavailable
from tests.builders.controller import SECRET


async def ask(answer: httpx.Response | Exception, *, after: int = 0) -> TracePage:
    def respond(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == f"Bearer {engine_token(SECRET)}"
        assert request.url.path == "/loraplane/v1/trace"
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with TraceClient(SECRET, transport=httpx.MockTransport(respond)) as client:
        return await client.page("engine-0", "http://engine/", after=after)


def a_page(first: int, following: int, end: int, engine: str = "engine-0") -> httpx.Response:
    return httpx.Response(
        200, content=msgspec.json.encode(TracePage(engine, first, following, end))
    )


async def test_a_page_is_read() -> None:
    assert (await ask(a_page(5, 9, 20), after=5)).next == 9


async def test_a_ring_that_ends_before_what_was_asked_for_is_an_answer() -> None:
    assert (await ask(a_page(3, 3, 3), after=100)).end == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(404), "status 404"),
        (httpx.Response(200, content=b"[]"), "not a trace page"),
        (httpx.ConnectError("no"), "ConnectError"),
        (a_page(0, 1, 1, engine="engine-1"), "a page of something else"),
        (a_page(1, 9, 9), "a page of something else"),
        (a_page(9, 5, 20), "a page of something else"),
    ],
    ids=["status", "malformed", "connection", "engine", "earlier", "backwards"],
)
async def test_anything_else_is_no_page(answer: httpx.Response | Exception, reason: str) -> None:
    with pytest.raises(TraceUnavailable) as caught:
        await ask(answer, after=5)

    assert caught.value.fields == {"engine": "engine-0", "reason": reason}


async def test_a_trickle_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_client, "PAGE_SECONDS", 0.05)

    class Trickle(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            await asyncio.Event().wait()

    with pytest.raises(TraceUnavailable) as caught:
        await ask(httpx.Response(200, stream=Trickle()))

    assert caught.value.fields["reason"] == "too slow"
