"""The front door on a real HTTP server: who gets in, with what, and what is counted."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving.contract import TenantEntry, gate_key
from serving.engine.runtime import get_runtime, set_runtime
from serving.engine.tenancy import RequestRefused, TenancyMiddleware, current_scope
from tests.builders.snapshots import SECRET, key, snapshot, version
from tests.fakes.engine_world import World

KEYS = (
    key("acme-key"),
    key("beta-key", tenant="beta"),
    key("old-key", expires_at=1.0),
    key("base-key", scopes=("base",)),
    key("falls-back", fallback="base"),
    key("nothing", scopes=("billing",)),
)


class Served:
    """A tiny OpenAI server behind the door; like vLLM's, it admits when it looks the model up."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.url = ""
        self.headers: dict[str, str] = {}
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.n_inside = 0

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        self.headers = dict(request.headers)
        if body.get("is_bypass"):
            return JSONResponse({"model": "leak"})
        try:
            await self.world.runtime.admit(current_scope(), body.get("model"), body)
        except RequestRefused as exc:
            error = {"message": exc.message, "type": exc.kind, "code": exc.code}
            return JSONResponse({"error": error}, int(exc.status))
        name = current_scope().answering_name() or "base"
        if body.get("stream"):
            return StreamingResponse(self.stream(name), media_type="text/event-stream")
        self.n_inside += 1
        await self.may_go_on.wait()
        self.n_inside -= 1
        return JSONResponse({"model": name})

    async def stream(self, name: str) -> AsyncIterator[bytes]:
        for _ in range(3):
            yield f"data: {name}\n\n".encode()
            await self.may_go_on.wait()
        await self.may_go_on.wait()

    async def models(self, _request: Request) -> Response:
        return JSONResponse({"data": [n for n, _ in self.world.runtime.listing(current_scope())]})

    def app(self) -> Any:
        anything = Route("/{rest:path}", lambda _: JSONResponse({"leak": True}), methods=["POST"])
        routes = [
            Route(path, self.complete, methods=["POST"])
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/messages")
        ]
        routes += [
            Route("/v1/models", self.models),
            Route("/health", lambda _: Response()),
            Route("/metrics", lambda _: Response(generate_latest(self.world.registry))),
            anything,
        ]
        return TenancyMiddleware(Starlette(routes=routes))

    def client(self, api_key: str | None = "acme-key", **headers: str) -> httpx.AsyncClient:
        if api_key is not None:
            headers["authorization"] = f"Bearer {api_key}"
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=5)

    async def ask(self, model: str | None = "support", **fields: Any) -> httpx.Response:
        async with self.client() as client:
            return await client.post("/v1/completions", json={"model": model, **fields})


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        server.force_exit = True
        await task


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    world = World(tmp_path, metrics_token="scrape")
    one = version("acme/support@1", digest=await world.put("one"))
    beta = version("beta/sql@1", digest=await world.put("two"))
    refused = version("acme/broken@1", digest=await world.put("REFUSE"))
    world.link.publish(
        snapshot(
            one,
            beta,
            refused,
            aliases=(one.name, beta.name, refused.name),
            keys=KEYS,
            tenants=(TenantEntry("acme", 2),),
            store_url=world.store_url,
        )
    )
    await world.run()
    set_runtime(world.runtime)
    assert get_runtime() is world.runtime
    await world.until(lambda: world.runtime.readiness() is None)
    tiny = Served(world)
    async with serving(tiny.app()) as tiny.url:
        yield tiny
        tiny.may_go_on.set()
    set_runtime(None)
    await world.runtime.stop()


def rejections(served: Served, reason: str) -> float | None:
    return served.world.registry.get_sample_value(
        "loraplane_admission_rejections_total", {"reason": reason}
    )


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


async def test_an_answer_that_was_never_admitted_is_withheld(served: Served) -> None:
    response = await served.ask(is_bypass=True)

    assert response.status_code == 500
    assert response.json()["error"]["code"] == "not_admitted"


async def test_the_limit_of_requests_in_flight_is_a_429_and_ends_with_them(served: Served) -> None:
    served.may_go_on.clear()
    running = [asyncio.create_task(served.ask()) for _ in range(2)]
    await served.world.until(lambda: served.n_inside == 2)

    third = await served.ask()

    assert third.status_code == 429
    assert third.headers["retry-after"] == "1"
    assert third.json()["error"]["type"] == "rate_limit_error"
    assert served.world.runtime.admission.claims("acme/support@1") == 2
    served.may_go_on.set()
    assert {r.status_code for r in await asyncio.gather(*running)} == {200}
    assert (await served.ask()).status_code == 200
    assert served.world.runtime.admission.claims("acme/support@1") == 0
    assert rejections(served, "rate_limit_exceeded") == 1.0


async def test_a_stream_holds_its_version_until_its_last_byte(served: Served) -> None:
    served.may_go_on.clear()
    claims = served.world.runtime.admission.claims
    async with (
        served.client() as client,
        client.stream(
            "POST", "/v1/completions", json={"model": "support", "stream": True}
        ) as response,
    ):
        lines = response.aiter_lines()
        assert await anext(lines) == "data: acme/support@1"
        assert claims("acme/support@1") == 1
        served.may_go_on.set()
        rest = [line async for line in lines if line]

    assert rest == ["data: acme/support@1"] * 2
    await served.world.until(lambda: claims("acme/support@1") == 0)


async def test_a_client_that_goes_away_gives_up_its_version(served: Served) -> None:
    served.may_go_on.clear()
    claims = served.world.runtime.admission.claims
    async with served.client() as client:
        with suppress(httpx.ReadTimeout):
            async with client.stream(
                "POST",
                "/v1/completions",
                json={"model": "support", "stream": True},
                timeout=0.3,
            ) as response:
                assert claims("acme/support@1") == 1
                _ = [line async for line in response.aiter_lines()]

    await served.world.until(lambda: claims("acme/support@1") == 0)


async def test_an_adapter_that_is_not_ready_is_a_503_with_retry_after(served: Served) -> None:
    response = await served.ask("broken")

    assert response.status_code == 503
    assert response.headers["retry-after"] == "2"
    assert rejections(served, "adapter_not_ready") == 1.0


async def test_a_key_that_falls_back_says_that_the_base_model_answered(served: Served) -> None:
    async with served.client("falls-back") as client:
        response = await client.post("/v1/completions", json={"model": "broken"})

    assert response.json() == {"model": "base"}
    assert response.headers["x-loraplane-fallback"] == "acme/broken@1"


async def test_models_are_those_of_the_key(served: Served) -> None:
    async with served.client() as acme, served.client("beta-key") as beta:
        assert "support" in (await acme.get("/v1/models")).json()["data"]
        assert (await beta.get("/v1/models")).json()["data"] == ["sql", "beta/sql@1"]


async def test_draining_turns_new_requests_away_and_is_not_ready(served: Served) -> None:
    async with served.client() as client:
        assert (await client.get("/ready")).json() == {"status": "ready"}
        served.world.runtime.drain()
        ready = await client.get("/ready")
        health = await client.get("/health")
    refused = await served.ask()

    assert (ready.status_code, health.status_code, refused.status_code) == (503, 200, 503)
    assert refused.headers["retry-after"] == "1"


async def test_metrics_ask_for_their_token_where_one_is_set(served: Served) -> None:
    async with served.client("scrape") as scraper, served.client() as tenant:
        told = await scraper.get("/metrics")
        assert (await tenant.get("/metrics")).status_code == 401

    assert told.status_code == 200
    assert "loraplane_adapter_loads_total" in told.text


async def test_before_the_runtime_exists_everything_waits(served: Served) -> None:
    set_runtime(None)

    assert (await served.ask()).status_code == 503
    async with served.client() as client:
        ready = await client.get("/ready")
        assert (await client.get("/metrics")).status_code == 404
    assert ready.status_code == 503
    assert ready.json()["waiting_for"] == "the engine starts"


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


async def test_the_door_costs_well_under_a_millisecond(served: Served) -> None:
    door = TenancyMiddleware(_admitting(served))
    headers = [(b"authorization", b"Bearer acme-key")] + [
        (f"x-{i}".encode(), b"1") for i in range(12)
    ]

    async def send(_message: Any) -> None:
        return None

    took = []
    for _ in range(300):
        scope = {"type": "http", "path": "/v1/completions", "method": "POST", "headers": headers}
        started = time.perf_counter()
        await door(scope, None, send)  # type: ignore[arg-type]
        took.append(time.perf_counter() - started)

    # The target is 50 us; here only a gross mistake is caught, because the machine is shared.
    assert sorted(took)[len(took) // 2] < 0.0005


def _admitting(served: Served) -> Any:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await served.world.runtime.admit(current_scope(), "support", {"model": "support"})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app
