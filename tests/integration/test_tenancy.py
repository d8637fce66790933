"""The front door on a real HTTP server: who gets in, and with what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from serving.contract import TraceKind, TracePage, engine_token, gate_key
from serving.engine.tenancy import RequestRefused, TenancyMiddleware, current_scope
from tests.builders.snapshots import SECRET
from tests.fakes.front_door import Served, behind_the_door


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with behind_the_door(tmp_path) as tiny:
        yield tiny


async def test_a_tenants_key_gets_its_own_adapter_by_its_short_name(served: Served) -> None:
    assert (await served.ask()).json() == {"model": "acme/support@1"}


async def test_a_foreign_adapter_and_an_absent_one_are_the_same_answer(served: Served) -> None:
    foreign, absent = await served.ask("beta/sql@1"), await served.ask("beta/sqx@1")

    assert foreign.status_code == absent.status_code == 404
    assert foreign.content.replace(b"sql", b"sqx") == absent.content
    assert foreign.headers.keys() == absent.headers.keys()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/invocations"),
        ("POST", "/tokenize"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/adapters"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/completions/"),
        ("POST", "//v1/completions"),
        ("POST", "/v1/models"),
        ("GET", "/v1/completions"),
        ("GET", "/docs"),
        ("GET", "/version"),
        ("POST", "/metrics"),
        ("POST", "/health"),
        ("OPTIONS", "/v1/completions"),
        ("DELETE", "/v1/models"),
    ],
)
async def test_every_other_route_does_not_exist(served: Served, method: str, path: str) -> None:
    async with served.client() as client:
        response = await client.request(method, served.url + path)

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


@pytest.mark.parametrize("api_key", [None, "wrong", "old-key"])
async def test_without_a_valid_key_nothing_is_told(served: Served, api_key: str | None) -> None:
    async with served.client(api_key) as client:
        response = await client.post("/v1/completions", json={"model": "support"})

    assert response.status_code == 401
    assert response.json()["error"] == {
        "message": "The API key is missing or not valid.",
        "type": "invalid_request_error",
        "param": None,
        "code": "invalid_api_key",
    }
    assert response.headers["www-authenticate"] == "Bearer"


async def test_a_key_without_a_scope_for_engines_is_forbidden(served: Served) -> None:
    async with served.client("nothing") as client:
        assert (await client.get("/v1/models")).status_code == 403


async def test_x_api_key_is_for_the_messages_route_alone(served: Served) -> None:
    async with served.client(None, **{"x-api-key": "acme-key"}) as client:
        messages = await client.post("/v1/messages", json={"model": "support"})
        completions = await client.post("/v1/completions", json={"model": "support"})

    assert messages.json() == {"model": "acme/support@1"}
    assert completions.status_code == 401


async def test_two_different_keys_in_one_request_are_none(served: Served) -> None:
    async with served.client(**{"x-api-key": "beta-key"}) as client:
        response = await client.post("/v1/messages", json={"model": "support"})

    assert response.status_code == 401


async def test_the_gate_reaches_every_tenant_and_the_base_model(served: Served) -> None:
    async with served.client(gate_key(SECRET)) as client:
        answers = [
            (await client.post("/v1/completions", json={"model": model})).json()
            for model in ("beta/sql@1", "acme/support@1", "base")
        ]

    assert [a["model"] for a in answers] == ["beta/sql@1", "acme/support@1", "base"]


async def test_dangerous_headers_and_the_key_itself_stay_outside(served: Served) -> None:
    dangerous = {
        "X-Vllm-Priority": "-9",
        "X-data-parallel-rank": "1",
        "X-Session-ID": "s",
        "X-Request-Id": "r",
        "X-Amzn-SageMaker-Adapter-Identifier": "beta/sql@1",
    }
    async with served.client(**dangerous) as client:
        await client.post("/v1/completions", json={"model": "support"}, headers={"x-kept": "1"})

    assert served.headers["x-kept"] == "1"
    assert not {name.lower() for name in dangerous} & served.headers.keys()
    assert "authorization" not in served.headers


@pytest.mark.parametrize("field", ["priority", "cache_salt", "lora_path"])
async def test_a_field_that_reaches_past_the_tenant_is_a_bad_request(
    served: Served, field: str
) -> None:
    async with served.client() as client:
        response = await client.post("/v1/completions", json={"model": "support", field: 1})

    assert response.status_code == 400
    assert field in response.json()["error"]["message"]


async def test_a_request_without_a_model_is_refused(served: Served) -> None:
    assert (await served.ask(None)).status_code == 400
    assert (await served.ask("")).status_code == 400


async def test_models_are_those_of_the_key(served: Served) -> None:
    async with served.client() as acme, served.client("beta-key") as beta:
        assert "support" in (await acme.get("/v1/models")).json()["data"]
        assert (await beta.get("/v1/models")).json()["data"] == ["sql", "beta/sql@1"]


async def test_metrics_ask_for_their_token_where_one_is_set(served: Served) -> None:
    async with served.client("scrape") as scraper, served.client() as tenant:
        told = await scraper.get("/metrics")
        assert (await tenant.get("/metrics")).status_code == 401

    assert told.status_code == 200
    assert "loraplane_adapter_loads_total" in told.text


async def test_a_websocket_is_closed_at_once() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def never(*_: Any) -> Any:
        raise AssertionError("the application was reached")

    await TenancyMiddleware(never)({"type": "websocket"}, never, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]


async def test_lifespan_goes_through() -> None:
    reached: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        reached.append(scope["type"])

    await TenancyMiddleware(app)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]

    assert reached == ["lifespan"]


def test_outside_of_a_request_there_is_no_scope() -> None:
    with pytest.raises(RequestRefused):
        current_scope()


async def test_the_gate_waits_behind_tenants_and_hears_how_many_there_are(served: Served) -> None:
    served.may_go_on.clear()
    waiting = [asyncio.create_task(served.ask()) for _ in range(2)]
    while served.n_inside < 2:  # noqa: ASYNC110 - a server that knows no loop of ours
        await asyncio.sleep(0.01)

    asked = {"model": "acme/support@1", "stream": True}
    async with (
        served.client(gate_key(SECRET)) as client,
        client.stream("POST", "/v1/completions", json=asked) as response,
    ):
        served.may_go_on.set()
        await response.aread()
    await asyncio.gather(*waiting)

    assert served.headers["x-vllm-priority"] == "100"
    assert response.headers["x-loraplane-tenants-in-flight"] == "2"


async def test_a_tenant_has_no_class_and_is_not_told_of_the_others(served: Served) -> None:
    async with served.client(**{"x-vllm-priority": "-5"}) as client:
        response = await client.post("/v1/completions", json={"model": "support"})

    assert "x-vllm-priority" not in served.headers
    assert "x-loraplane-tenants-in-flight" not in response.headers


async def trace(served: Served, token: str | None, query: str = "") -> httpx.Response:
    async with served.client(token) as client:
        return await client.get(f"/loraplane/v1/trace{query}")


async def test_the_trace_answers_the_engine_token_and_nobody_else(served: Served) -> None:
    await served.ask()

    for key in (None, "acme-key", "scrape", gate_key(SECRET), "lp_engine_guess"):
        assert (await trace(served, key)).status_code == 401
    async with served.client("acme-key") as client:
        assert (await client.post("/loraplane/v1/trace")).status_code == 404
    page = msgspec.json.decode((await trace(served, engine_token(SECRET))).content, type=TracePage)

    assert page.engine_id == "engine-0"
    assert [event.adapter for event in page.events][-2:] == ["acme/support@1"] * 2


async def test_a_page_of_the_trace_begins_and_ends_where_it_was_asked_to(served: Served) -> None:
    for _ in range(3):
        await served.ask()
    token = engine_token(SECRET)
    end = msgspec.json.decode((await trace(served, token)).content, type=TracePage).end

    found = await trace(served, token, f"?after={end - 4}&limit=3")

    page = msgspec.json.decode(found.content, type=TracePage)
    assert (page.first, page.next, page.end) == (end - 4, end - 1, end)
    assert len(page.events) == 3
    for query in ("?after=-1", "?after=x", "?limit=1e9", "?after=" + "9" * 40):
        assert (await trace(served, token, query)).status_code == 400


async def test_every_way_for_a_request_to_end_is_in_the_trace_once(served: Served) -> None:
    token = engine_token(SECRET)
    begin = served.world.runtime.tracing.end
    await served.ask()
    await served.ask(stream=True)
    async with served.client(gate_key(SECRET)) as client:
        await client.post("/v1/completions", json={"model": "acme/support@1"})
    served.may_go_on.clear()
    leaving = asyncio.create_task(served.ask())
    await served.world.until(lambda: served.n_inside == 1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    served.may_go_on.set()
    await served.world.until(lambda: served.world.runtime.tracing.end >= begin + 8)
    await served.ask("beta/sql@1")

    page = msgspec.json.decode(
        (await trace(served, token, f"?after={begin}")).content, type=TracePage
    )

    admitted = [event for event in page.events if event.kind is TraceKind.ADMITTED]
    finished = [event.request for event in page.events if event.kind is TraceKind.FINISHED]
    assert [event.is_gate for event in admitted] == [False, False, True, False]
    assert sorted(finished) == [event.position for event in admitted]
