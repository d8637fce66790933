"""What the front tries again, and what it must not: a real Envoy before fake engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.controller.auth import make_key
from tests.builders.envoy import a_front, front_values, until
from tests.fakes.upstream import Upstream, upstreams

COMPLETIONS = "/v1/chat/completions"


@pytest.fixture
async def engines() -> AsyncIterator[list[Upstream]]:
    async with upstreams("127.0.0.2", "127.0.0.3") as made:
        yield made


@asynccontextmanager
async def a_client(
    engines: list[Upstream], folder: Path, **envoy: Any
) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        a_front(folder, front_values(engines, **envoy), n_healthy=2) as front,
        httpx.AsyncClient(
            base_url=front.url,
            trust_env=False,
            timeout=60,
            headers={"authorization": f"Bearer {make_key('acme', cluster_secret='s')}"},
        ) as client,
    ):
        yield client


@pytest.fixture
async def client(engines: list[Upstream], tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with a_client(engines, tmp_path) as made:
        yield made


async def home(client: httpx.AsyncClient, engines: list[Upstream]) -> tuple[Upstream, Upstream]:
    """The engine of this client's tenant, and the other one; what they saw is forgotten."""
    name = (await client.post(COMPLETIONS, json={})).json()["by"]
    mine, other = sorted(engines, key=lambda engine: engine.name != name)
    mine.seen.clear()
    return mine, other


async def test_a_refusal_is_tried_again_on_another_engine(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    mine, other = await home(client, engines)
    mine.refusals_left = 1_000

    answers = [await client.post(COMPLETIONS, json={}) for _ in range(20)]

    assert {answer.json().get("by") for answer in answers} == {other.name}
    assert len(mine.seen) == len(other.seen) == 20


async def test_a_tenant_whose_version_is_out_on_one_engine_does_not_take_it_from_others(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    """Refusals are no reason to eject: 40 in a row, and the next request goes home again."""
    mine, _ = await home(client, engines)
    mine.refusals_left = 40
    for _ in range(40):
        await client.post(COMPLETIONS, json={})

    assert (await client.post(COMPLETIONS, json={})).json()["by"] == mine.name


async def test_when_all_refuse_the_client_gets_the_engines_own_words(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    for engine in engines:
        engine.refusals_left = 10

    answer = await client.post(COMPLETIONS, json={})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "draining"
    assert answer.headers["retry-after"] == "1"
    assert sum(len(engine.seen) for engine in engines) == 3


async def test_an_engine_that_is_gone_costs_no_request(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    """Before any health check has noticed: the connection fails, another engine answers."""
    mine, other = await home(client, engines)
    await mine.close()

    answers = [await client.post(COMPLETIONS, json={}) for _ in range(20)]
    await mine.listen()

    assert {answer.json().get("by") for answer in answers} == {other.name}


async def test_a_stream_that_breaks_is_not_begun_again(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    mine, other = await home(client, engines)
    pieces: list[str] = []
    broken_stream = {"stream": 5, "break_after": 2}

    async def read() -> None:
        async with client.stream("POST", COMPLETIONS, json=broken_stream) as answer:
            async for line in answer.aiter_lines():
                pieces.append(line)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()

    assert [piece for piece in pieces if piece] == [f"data: {mine.name} {i}" for i in range(2)]
    assert (len(mine.seen), len(other.seen)) == (1, 0)


async def test_a_request_that_an_engine_dies_of_is_not_handed_to_the_next(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    mine, other = await home(client, engines)
    mine.drops_left = other.drops_left = 1

    answer = await client.post(COMPLETIONS, json={})

    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_engine"
    assert (len(mine.seen), len(other.seen)) == (1, 0)


async def test_on_wish_a_connection_that_broke_before_the_first_byte_is_tried_again(
    engines: list[Upstream], tmp_path: Path
) -> None:
    async with a_client(engines, tmp_path, retry={"onReset": True}) as client:
        mine, other = await home(client, engines)
        mine.drops_left = 1

        answer = await client.post(COMPLETIONS, json={})

    assert answer.json()["by"] == other.name


async def test_a_long_prompt_is_tried_again_whole(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    mine, other = await home(client, engines)
    mine.refusals_left = 1
    prompt = "x" * 5_000_000

    answer = await client.post(COMPLETIONS, json={"prompt": prompt})

    assert answer.json()["by"] == other.name
    assert mine.seen[0].n_body_bytes == other.seen[0].n_body_bytes > 5_000_000


async def test_one_too_long_to_keep_is_still_delivered_once(
    engines: list[Upstream], tmp_path: Path
) -> None:
    async with a_client(engines, tmp_path, retry={"bufferBytes": 100_000}) as client:
        mine, other = await home(client, engines)

        served = await client.post(COMPLETIONS, json={"prompt": "x" * 3_000_000})
        mine.refusals_left = 1
        refused = await client.post(COMPLETIONS, json={"prompt": "x" * 3_000_000})

    assert served.json()["by"] == mine.name
    assert refused.json()["error"]["code"] == "draining"
    assert other.seen == []


async def test_a_client_cannot_set_the_fronts_rules(
    client: httpx.AsyncClient, engines: list[Upstream]
) -> None:
    """Envoy's own x-envoy-* headers: they would cut this answer off, and ask for another try."""
    mine, other = await home(client, engines)
    headers = {
        "x-envoy-upstream-rq-timeout-ms": "50",
        "x-envoy-max-retries": "5",
        "x-envoy-retry-on": "reset,5xx",
    }
    gate = mine.hold()

    asked = asyncio.create_task(client.post(COMPLETIONS, json={}, headers=headers))
    await until(lambda: _in_flight(mine), 1)
    await asyncio.sleep(0.3)  # Six times the timeout that the client asked for.
    gate.release()
    answer = await asked
    mine.gate, mine.drops_left = None, 1
    dropped = await client.post(COMPLETIONS, json={}, headers=headers)

    assert answer.status_code == 200
    assert dropped.status_code == 503
    assert (len(mine.seen), len(other.seen)) == (2, 0)
    assert not any(name.startswith("x-envoy-ret") for seen in mine.seen for name in seen.headers)


async def _in_flight(engine: Upstream) -> int:
    return engine.in_flight
