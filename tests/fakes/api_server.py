"""A fake Kubernetes API server in this process: keeps state, speaks HTTP, knows no admission.

It has what loraplane uses: optimistic locking, merge patches, the status part, paged lists, watches
with bookmarks that expire, and pods' logs. No RBAC, no schemas, no controllers.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import web

from serving.kube import kinds
from serving.kube.kinds import Kind
from tests.fakes.api_objects import (
    Event,
    Json,
    Key,
    Objects,
    Refused,
    has_fields,
    key_of,
    merge_patch,
    selects,
)

NAMESPACES = Kind("", "v1", "namespaces", "Namespace", namespaced=False)
KINDS = (*(item for item in vars(kinds).values() if isinstance(item, Kind)), NAMESPACES)
_BOOKMARK_SECONDS = 1.0


class FakeApiServer:
    """Its state, for tests to look at and to trouble."""

    def __init__(self) -> None:
        self.objects = Objects()
        self.logs: dict[tuple[str, str], str] = {}
        """(namespace, pod): what its container wrote."""
        self.tokens: set[str] | None = None
        """Bearer tokens that are let in; None: everybody is."""
        self.troubles: list[Refused] = []
        """The next requests but watches are answered with these."""
        self.n_lists: Counter[str] = Counter()
        """By plural: requests for a list, each page one."""
        self.n_listed: Counter[str] = Counter()
        """By plural: objects in the answers to lists."""
        self.url = ""
        self.port = 0
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}

    def application(self) -> web.Application:
        """The ASGI-less app."""
        app = web.Application(middlewares=[self._guard])
        for root in ("/api/{version}", "/apis/{group}/{version}"):
            for place in ("/namespaces/{namespace}/{plural}", "/{plural}"):
                app.router.add_route("GET", f"{root}{place}", self._collection)
                app.router.add_route("POST", f"{root}{place}", self._create)
                for part in ("", "/{part}"):
                    app.router.add_route("*", f"{root}{place}/{{name}}{part}", self._object)
        return app

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._let_in(request)
            return await handler(request)
        except Refused as exc:
            return web.json_response(_status(exc), status=exc.status)

    def _let_in(self, request: web.Request) -> None:
        token = request.headers.get("Authorization", "").partition(" ")[2]
        if self.tokens is not None and token not in self.tokens:
            raise Refused(401, "Unauthorized")
        if self.troubles and "watch" not in request.query:
            raise self.troubles.pop(0)

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        kind, namespace = self._kind(request), request.match_info.get("namespace", "")
        selector = request.query.get("labelSelector", "")
        if "watch" in request.query:
            return await self._watch(request, kind, namespace, selector)
        token = json.loads(base64.b64decode(request.query.get("continue", "") or "e30="))
        if token.get("revision", self.objects.revision) < self.objects.oldest:
            raise Refused(410, "Expired", "the continue parameter is too old")
        found = [
            item
            for item in self.objects.all(kind.group, kind.plural, namespace)
            if selects(selector, item) and has_fields(request.query.get("fieldSelector", ""), item)
        ]
        self.n_lists[kind.plural] += 1
        self.n_listed[kind.plural] += len(found)
        begin, limit = token.get("begin", 0), int(request.query.get("limit") or len(found) or 1)
        revision = token.get("revision", self.objects.revision)
        facts: Json = {"resourceVersion": str(revision)}
        if begin + limit < len(found):
            rest = {"begin": begin + limit, "revision": revision}
            facts["continue"] = base64.b64encode(json.dumps(rest).encode()).decode()
        return web.json_response(
            {
                "kind": f"{kind.kind}List",
                "apiVersion": kind.api_version,
                "metadata": facts,
                "items": found[begin : begin + limit],
            }
        )

    async def _create(self, request: web.Request) -> web.Response:
        kind, body = self._kind(request), await request.json()
        name = body.get("metadata", {}).get("name")
        if not name and (prefix := body.get("metadata", {}).get("generateName")):
            name = f"{prefix}{self.objects.revision}"
        if not name or body.get("kind") != kind.kind:
            raise Refused(422, "Invalid", "metadata.name: Required value, or another kind")
        key = key_of(kind, request.match_info.get("namespace", ""), name)
        return web.json_response(await self.objects.create(key, body), status=201)

    async def _object(self, request: web.Request) -> web.Response:
        kind, part = self._kind(request), request.match_info.get("part", "")
        key = key_of(kind, request.match_info.get("namespace", ""), request.match_info["name"])
        if part == "log":
            return self._log(request, key)
        if part not in ("", "status"):
            raise Refused(404, "NotFound")
        if request.method == "GET":
            return web.json_response(self.objects.get(key))
        if request.method == "DELETE":
            options = json.loads(await request.read() or b"{}")
            uid = (options.get("preconditions") or {}).get("uid")
            return web.json_response(await self.objects.delete(key, uid))
        body = await request.json()
        if request.method == "PATCH":
            body = _patched(self.objects.get(key), body)
        return web.json_response(
            await self.objects.write(key, body, is_status=part == "status"),
        )

    def _log(self, request: web.Request, key: Key) -> web.Response:
        self.objects.get(key)
        lines = self.logs.get((key[2], key[3]), "").splitlines(keepends=True)
        tail = int(request.query.get("tailLines") or len(lines))
        text = "".join(lines[-tail:] if tail else [])
        return web.Response(text=text[: int(request.query.get("limitBytes") or len(text))])

    async def _watch(
        self, request: web.Request, kind: Kind, namespace: str, selector: str
    ) -> web.StreamResponse:
        seen = int(request.query.get("resourceVersion") or self.objects.revision)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            async with asyncio.timeout(float(request.query.get("timeoutSeconds") or 60)):
                while True:
                    try:
                        events = self.objects.since(seen)
                    except Refused as exc:
                        await _say(response, "ERROR", _status(exc))
                        break
                    for event in events:
                        seen = event.revision
                        if _is_of(event, kind, namespace):
                            await _tell(response, event, selector)
                    if not await self._something_new(seen):
                        facts = {"metadata": {"resourceVersion": str(seen)}, "kind": kind.kind}
                        await _say(response, "BOOKMARK", facts)
        return response

    async def _something_new(self, seen: int) -> bool:
        objects = self.objects
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_BOOKMARK_SECONDS), objects.changed:
                await objects.changed.wait_for(lambda: objects.revision > seen)
        return objects.revision > seen

    def _kind(self, request: web.Request) -> Kind:
        info = request.match_info
        key = (info.get("group", ""), info["version"], info["plural"])
        if key not in self._kinds:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        return self._kinds[key]


@contextlib.asynccontextmanager
async def run_fake_api_server() -> AsyncIterator[FakeApiServer]:
    """Serve on a free port of loopback."""
    server = FakeApiServer()
    # Watches must not hold up the end.
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        server.url = f"http://127.0.0.1:{server.port}"
        yield server
    finally:
        await runner.cleanup()


def _patched(present: Json, patch: Json) -> Json:
    merged: Json = merge_patch(present, patch)
    # The stored one is in `present`; a patch is guarded only where it names a version itself.
    if "resourceVersion" not in (patch.get("metadata") or {}):
        merged["metadata"].pop("resourceVersion", None)
    return merged


def _is_of(event: Event, kind: Kind, namespace: str) -> bool:
    return event.key[:2] == (kind.group, kind.plural) and namespace in ("", event.key[2])


async def _tell(response: web.StreamResponse, event: Event, selector: str) -> None:
    was = event.before is not None and selects(selector, event.before)
    is_now = event.type != "DELETED" and selects(selector, event.object)
    if is_now:
        await _say(response, "MODIFIED" if was else "ADDED", event.object)
    elif was:
        await _say(response, "DELETED", event.object)


async def _say(response: web.StreamResponse, kind: str, item: Any) -> None:
    await response.write(json.dumps({"type": kind, "object": item}).encode() + b"\n")


def _status(refused: Refused) -> Json:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": refused.reason,
        "message": refused.message,
        "code": refused.status,
    }
