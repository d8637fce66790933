"""The drain through the real front door, and the verb that drives it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.cli.main import main
from serving.contract import engine_token
from tests.builders.snapshots import SECRET
from tests.fakes.front_door import Served, behind_the_door

PATH = "/loraplane/v1/drain"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with behind_the_door(tmp_path) as tiny:
        yield tiny


@pytest.fixture
def environment(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine's container has; it listens on every address."""
    monkeypatch.setenv("LORAPLANE_HOST", "0.0.0.0")  # noqa: S104 - nothing binds it
    monkeypatch.setenv("LORAPLANE_ENGINE_PORT", str(httpx.URL(served.url).port))
    monkeypatch.setenv("LORAPLANE_CLUSTER_SECRET", SECRET)


async def order(served: Served, **body: Any) -> httpx.Response:
    async with served.client(engine_token(SECRET)) as client:
        return await client.post(PATH, json=body or None)


async def told(served: Served) -> dict[str, Any]:
    async with served.client(engine_token(SECRET)) as client:
        return dict((await client.get(PATH)).json())


async def is_ready(served: Served) -> bool:
    async with served.client() as client:
        return (await client.get("/ready")).status_code == 200


async def verb(*arguments: str) -> int:
    def run() -> int:
        try:
            main(["drain", *arguments])
        except SystemExit as exc:
            return int(exc.code or 0)
        return 0

    return await asyncio.to_thread(run)


async def test_a_leaving_engine_is_not_ready_and_still_answers(served: Served) -> None:
    assert await told(served) == {"state": "serving", "in_flight": 0, "admits_for_seconds": None}

    answer = (await order(served, leave_seconds=600)).json()

    assert (answer["state"], answer["in_flight"]) == ("leaving", 0)
    assert 590 < answer["admits_for_seconds"] <= 600
    assert not await is_ready(served)
    assert (await served.ask()).status_code == 200
    world = served.world
    await world.until(lambda: world.link.last_report and world.link.last_report.stopping)
    report = world.link.last_report
    assert report is not None
    assert not report.is_ready


async def test_a_draining_engine_turns_new_requests_away_and_ends_a_stream_whole(
    served: Served,
) -> None:
    served.may_go_on.clear()
    async with (
        served.client() as client,
        client.stream(
            "POST", "/v1/completions", json={"model": "support", "stream": True}
        ) as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == "data: acme/support@1"

        assert (await order(served, leave_seconds=0)).json()["in_flight"] == 1

        refused = await served.ask()
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert refused.json()["error"]["code"] == "draining"
        assert await told(served) == {"state": "draining", "in_flight": 1, "admits_for_seconds": 0}
        served.may_go_on.set()
        rest = [line async for line in lines if line]

    assert rest == ["data: acme/support@1"] * 2
    async with asyncio.timeout(30):
        while (await told(served))["in_flight"]:  # noqa: ASYNC110 - another process's count
            await asyncio.sleep(0.01)


async def test_asked_twice_it_is_the_same_departure(served: Served) -> None:
    first = (await order(served)).json()
    second = (await order(served)).json()

    assert first["admits_for_seconds"] <= 15
    assert second["admits_for_seconds"] <= first["admits_for_seconds"]


@pytest.mark.parametrize(
    "body", [b"[]", b"{", b'{"leave_seconds": -1}', b'{"leave": 1}', b'{"leave_seconds": 1e9}']
)
async def test_what_cannot_be_meant_changes_nothing(served: Served, body: bytes) -> None:
    async with served.client(engine_token(SECRET)) as client:
        response = await client.post(PATH, content=body)

    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_drain")
    assert (await told(served))["state"] == "serving"


async def test_a_body_without_end_is_refused(served: Served) -> None:
    async with served.client(engine_token(SECRET)) as client:
        response = await client.post(PATH, content=b" " * 10_000)

    assert response.status_code == 413
    assert await is_ready(served)


@pytest.mark.parametrize("api_key", [None, "acme-key"])
async def test_nobody_else_sends_an_engine_away(served: Served, api_key: str | None) -> None:
    async with served.client(api_key) as client:
        assert (await client.post(PATH)).status_code == 401
        assert (await client.get(PATH)).status_code == 401

    assert await is_ready(served)


@pytest.mark.usefixtures("environment")
async def test_the_verb_ends_with_0_once_nothing_is_in_flight(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.may_go_on.clear()
    running = asyncio.create_task(served.ask())
    await served.world.until(lambda: served.n_inside == 1)
    draining = asyncio.create_task(verb("--leave-seconds", "0"))
    await served.world.until(lambda: served.world.runtime.departure.is_draining)

    served.may_go_on.set()

    assert await draining == 0
    assert (await running).status_code == 200
    said = capsys.readouterr().out
    assert "draining: 1 in flight" in said
    assert said.endswith("drained: nothing is in flight\n")


@pytest.mark.usefixtures("environment")
async def test_the_verb_waits_for_the_leave_window_even_where_nothing_is_in_flight(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await verb("--leave-seconds", "0.6", "--json") == 0

    said = json.loads(capsys.readouterr().out)
    assert said == {"state": "draining", "in_flight": 0, "admits_for_seconds": 0, "drained": True}


@pytest.mark.usefixtures("environment")
async def test_the_verb_ends_with_1_and_says_how_many_are_left(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.may_go_on.clear()
    running = asyncio.create_task(served.ask())
    await served.world.until(lambda: served.n_inside == 1)

    assert await verb("--leave-seconds", "0", "--timeout", "0.5", "--json") == 1

    captured = capsys.readouterr()
    assert "1 requests were still in flight" in captured.err
    assert json.loads(captured.out)["drained"] is False
    served.may_go_on.set()
    assert (await running).status_code == 200


async def test_the_verb_ends_with_3_where_no_engine_answers_and_with_2_without_its_secret(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORAPLANE_ENGINE_PORT", "1")
    monkeypatch.setenv("LORAPLANE_CLUSTER_SECRET", SECRET)
    assert await verb() == 3
    assert "http://127.0.0.1:1 does not answer" in capsys.readouterr().err

    monkeypatch.setenv("LORAPLANE_ENGINE_PORT", str(httpx.URL(served.url).port))
    monkeypatch.setenv("LORAPLANE_CLUSTER_SECRET", "another")
    assert await verb() == 2
    monkeypatch.delenv("LORAPLANE_CLUSTER_SECRET")
    assert await verb() == 2
    assert await is_ready(served)


async def test_the_verb_reaches_an_engine_that_speaks_ipv6_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = json.dumps({"state": "draining", "in_flight": 0, "admits_for_seconds": 0})

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        writer.write((head + body).encode())
        writer.close()

    server = await asyncio.start_server(answer, "::1", 0)
    monkeypatch.setenv("LORAPLANE_HOST", "::")
    monkeypatch.setenv("LORAPLANE_ENGINE_PORT", str(server.sockets[0].getsockname()[1]))
    monkeypatch.setenv("LORAPLANE_CLUSTER_SECRET", SECRET)
    async with server:
        assert await verb("--json") == 0

    assert json.loads(capsys.readouterr().out)["drained"] is True
