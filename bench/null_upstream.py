"""An OpenAI server that answers at once and computes nothing; alone, or behind our middleware.

What a gateway adds is the difference to asking it directly. `ours` has a real runtime behind the
real middleware: key, limits, resolution, lease, access trace and counts; only the engine is null.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry

from adapters.manifest import manifest_of_folder
from adapters.store import ArtifactStore
from serving.contract import (
    AliasEntry,
    ArtifactFile,
    FleetSnapshot,
    KeyGrant,
    Role,
    VersionEntry,
    encode,
    hash_key,
)
from serving.engine.asgi import ASGIApp, Receive, Scope, Send
from serving.engine.ports import EngineDescription, GeneratedTokens, LoadOutcome, WorkerFacts
from serving.engine.runtime import EngineRuntime, set_runtime
from serving.engine.tenancy import RequestRefused, TenancyMiddleware, current_scope
from serving.settings import EngineSettings

MODEL, KEY = "support", "lp_" + "b" * 43
FOLDER_VARIABLE = "LORAPLANE_BENCH_FOLDER"
"""Where `ours` keeps its engine's folder."""
PATH = "/v1/chat/completions"
_SECRET = "bench-secret"  # noqa: S105 - of nothing
_SETTLE_SECONDS = 30.0
_ANSWER = msgspec.json.encode(
    {
        "id": "chatcmpl-null",
        "object": "chat.completion",
        "created": 1,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)


class NullEngine:
    """An `EnginePort` that holds whatever it is told to and answers with one token."""

    def describe(self) -> EngineDescription:
        """Two slots, as in the tests of a real one."""
        return EngineDescription("null", "float32", 2, 8, 16, 2048)

    async def prefetch(self, name: str, path: str, leased: Collection[str]) -> LoadOutcome:
        """Always there."""
        return LoadOutcome("disk")

    async def remove(self, name: str, *, is_forgotten: bool = True) -> None:
        """Nothing to free."""

    async def keep_hot(self, names: Sequence[str]) -> None:
        """Nothing to keep."""

    async def generate(
        self, name: str | None, prompt_token_ids: list[int], max_tokens: int
    ) -> GeneratedTokens:
        """The same token, as often as asked."""
        return GeneratedTokens((1,) * max_tokens, (-0.5,) * max_tokens, (1.0,) * max_tokens, True)

    async def observe(self) -> WorkerFacts:
        """Nothing happens in it."""
        return WorkerFacts()

    def in_flight(self, name: str) -> int:
        """Nothing takes time in it."""
        return 0

    async def abort(self, name: str) -> int:
        """Nothing to abort."""
        return 0


def alone() -> ASGIApp:
    """For `uvicorn --factory`: the null upstream."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await _answer(scope, receive, send, is_admitted=False)

    return app


def ours() -> ASGIApp:
    """For `uvicorn --factory`: the same behind our middleware, in one process as in an engine."""
    runtime: list[EngineRuntime] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            runtime.append(await _converged(Path(os.environ[FOLDER_VARIABLE])))
            await _lifespan(receive, send)
            await runtime[0].stop()
        else:
            await _answer(scope, receive, send, is_admitted=True, runtime=runtime[0])

    return TenancyMiddleware(inner)


async def _converged(folder: Path) -> EngineRuntime:
    settings = EngineSettings(
        engine_dir=folder / "engine", cluster_secret=_SECRET, controller_url=None,
        probe_interval_seconds=0.0,
    )  # fmt: skip
    (folder / "engine").mkdir()
    (folder / "engine" / "snapshot.json").write_bytes(encode(await _snapshot(folder)))
    runtime = EngineRuntime(settings, NullEngine(), registry=CollectorRegistry())
    await runtime.start()
    set_runtime(runtime)
    async with asyncio.timeout(_SETTLE_SECONDS):
        while runtime.readiness() is not None:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
    return runtime


async def _snapshot(folder: Path) -> FleetSnapshot:
    source, url = folder / "adapter", f"file://{folder / 'store'}"
    source.mkdir()
    (source / "adapter_config.json").write_text("{}")
    (source / "adapter_model.safetensors").write_text("null")
    manifest = manifest_of_folder(source)
    await ArtifactStore.from_url(url).put(manifest, source)
    files = [ArtifactFile(f.name, f.sha256, f.size_bytes) for f in manifest.files]
    entry = VersionEntry(
        f"bench/{MODEL}@1", "bench", MODEL, 1, manifest.digest, files, 8, Role.SERVING
    )
    grant = KeyGrant("k", hash_key(KEY, cluster_secret=_SECRET), "bench", ["inference"])
    return FleetSnapshot(1, "base", url, [entry], [AliasEntry("bench", MODEL, 1)], [grant])


async def _lifespan(receive: Receive, send: Send) -> None:
    while (message := await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": f"{message['type']}.complete"})


async def _answer(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    is_admitted: bool,
    runtime: EngineRuntime | None = None,
) -> None:
    """Read the body, as any server does, and send the same answer; `/health` is asked without."""
    status, data = 200, _ANSWER
    if scope["method"] == "POST":
        asked: Mapping[str, Any] = msgspec.json.decode(await _body(receive))
        if is_admitted and runtime is not None:
            try:
                await runtime.admit(current_scope(), asked["model"], asked)
            except RequestRefused as exc:
                status, data = int(exc.status), msgspec.json.encode({"error": exc.code})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body
