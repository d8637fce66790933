"""A controller without its loop, and clients with each kind of token."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from serving.contract import EngineReport, engine_token
from serving.controller.app import create_app
from serving.controller.context import ControllerContext
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry.moves import Move
from serving.settings import ControllerSettings
from tests.builders.registry import Clock

ADMIN = "the-admin-token"
SECRET = "the-cluster-secret"
CONFIG = ("adapter_config.json", b'{"peft_type": "LORA", "r": 8}')


def settings_in(folder: Path, **changes: Any) -> ControllerSettings:
    given = {"data_dir": folder, "admin_token": ADMIN, "cluster_secret": SECRET, **changes}
    return ControllerSettings(**given)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def form_of(weights: bytes = b"weights") -> list[tuple[str, tuple[str, bytes]]]:
    """The two files of an upload."""
    return [
        (CONFIG[0], CONFIG),
        ("adapter_model.safetensors", ("adapter_model.safetensors", weights)),
    ]


@dataclass
class Controller:
    """One app, with a client per token."""

    app: FastAPI
    clock: Clock
    clients: contextlib.AsyncExitStack
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def context(self) -> ControllerContext:
        context: ControllerContext = self.app.state.context
        return context

    async def client(self, token: str | None = ADMIN) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        client = httpx.AsyncClient(
            transport=transport,
            base_url="http://controller",
            headers=bearer(token) if token else {},
        )
        return await self.clients.enter_async_context(client)

    async def engine_client(self) -> httpx.AsyncClient:
        return await self.client(engine_token(SECRET))

    async def tenant(self, tenant: str, scopes: list[str] | None = None) -> httpx.AsyncClient:
        """Make the tenant if needed, a key with these scopes, and a client with the key."""
        admin = await self.client()
        await admin.post("/v1/tenants", json={"id": tenant})
        body: dict[str, Any] = {"name": "test"} if scopes is None else {"scopes": scopes}
        answer = await admin.post(f"/v1/tenants/{tenant}/keys", json=body)
        return await self.client(answer.json()["key"])

    async def lead(self, name: str, *events: Event | Verdict) -> None:
        """Lead a version on as the steps would."""
        work = self.context.repository.work
        for event in events:
            row = await self.context.repository.versions.find(name)
            claimed = await work.claim_due([State(row.state)], lease_seconds=9, owner="test")
            assert claimed is not None
            assert claimed.id == name
            token = str(claimed.lock_token)
            if isinstance(event, Verdict):
                report = {"verdict": event.value, "reasons": [{"code": "x", "text": "<b>y</b>"}]}
                assert await work.conclude(name, token, verdict=event, report=report)
            elif event is Event.SWITCH:
                assert await work.switch(name, token, rollback_seconds=60)
            else:
                assert await work.apply(name, token, Move(event=event), rank=8)

    async def make_live(self, client: httpx.AsyncClient, tenant: str, weights: bytes) -> str:
        path = f"/v1/tenants/{tenant}/adapters/support/versions"
        answer = await client.post(path, files=form_of(weights), data={"promote": "auto"})
        assert answer.status_code == 202, answer.text
        name: str = answer.json()["name"]
        await self.lead(name, Event.ACCEPT, Verdict.PASS, Event.SWITCH)
        return name


@contextlib.asynccontextmanager
async def a_controller(folder: Path, **changes: Any) -> AsyncIterator[Controller]:
    clock = Clock()
    app = create_app(settings_in(folder, **changes), clock=clock, has_loop=False)
    async with contextlib.AsyncExitStack() as clients, app.router.lifespan_context(app):
        yield Controller(app, clock, clients)


@contextlib.contextmanager
def a_server(app: FastAPI) -> Iterator[str]:
    """The app behind a real socket, in a thread of its own; yields its URL."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 120
    while not server.started:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        app.state.context.notifier.close()
        server.should_exit = True
        thread.join(timeout=30)


def a_report(engine_id: str = "engine-0", **changes: Any) -> EngineReport:
    given: dict[str, Any] = {
        "engine_id": engine_id, "url": "http://127.0.0.1:8500", "build": "vllm test",
        "dtype": "float32", "revision": 0, "is_ready": True, "started_at": 1.0,
        "gpu_slots": 3, "cpu_slots": 6, "max_rank": 16, "max_model_len": 512,
    }  # fmt: skip
    return EngineReport(**{**given, **changes})
