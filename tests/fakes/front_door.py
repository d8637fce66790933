"""A tiny OpenAI server behind the real front door, on a real HTTP server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import uvicorn
from prometheus_client import generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from serving.contract import EngineKind, TenantEntry
from serving.engine.runtime import get_runtime, set_runtime
from serving.engine.tenancy import RequestRefused, TenancyMiddleware, current_scope
from tests.builders.snapshots import key, snapshot, version
from tests.fakes.engine_port import DESCRIPTION
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
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=30)

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


@asynccontextmanager
async def behind_the_door(
    folder: Path, *, cleared: list[EngineKind] | None = None
) -> AsyncIterator[Served]:
    """Two tenants, one of their adapters broken, and an engine that has converged.

    It is ready, but where only other kinds of engines are `cleared`.
    """
    world = World(folder, metrics_token="scrape")
    one = version("acme/support@1", digest=await world.put("one"))
    beta = version("beta/sql@1", digest=await world.put("two"))
    refused = version("acme/broken@1", digest=await world.put("REFUSE"))
    first = snapshot(
        one,
        beta,
        refused,
        aliases=(one.name, beta.name, refused.name),
        keys=KEYS,
        tenants=(TenantEntry("acme", 2),),
        store_url=world.store_url,
    )
    world.link.publish(msgspec.structs.replace(first, cleared=cleared))
    await world.run()
    set_runtime(world.runtime)
    assert get_runtime() is world.runtime
    await world.until(lambda: world.runtime.agent.is_settled)
    assert (world.runtime.readiness() is None) == (cleared is None or DESCRIPTION.kind in cleared)
    tiny = Served(world)
    async with serving(tiny.app()) as tiny.url:
        yield tiny
        tiny.may_go_on.set()
    set_runtime(None)
    await world.runtime.stop()
