"""The engine's front door: a pure ASGI middleware that denies by default.

A request passes when its path is on the list, its key is known, and its tenant's limit is not
reached. What the key may use is decided later, when vLLM looks the model up (`runtime.admit`).
"""

from __future__ import annotations

import math
from collections.abc import Awaitable
from http import HTTPStatus

from serving.contract import KeyGrant
from serving.engine.asgi import ASGIApp, Headers, Message, Receive, Scope, Send, refuse
from serving.engine.inner_routes import (
    DRAIN_PATH,
    TRACE_PATH,
    answer_drain,
    answer_ready,
    answer_trace,
)
from serving.engine.resolution import SCOPE_GATE, SCOPES, BaseModel, Table
from serving.engine.scope import Door, RequestRefused, RequestScope, current_scope, enter, leave

__all__ = ["RequestRefused", "TenancyMiddleware", "current_scope", "open_door"]

_API_KEY_PATH = "/v1/messages"
"""Anthropic's clients send `x-api-key`."""
_LISTED = "/v1/models"
_TENANTS = {
    "POST": ("/v1/chat/completions", "/v1/completions", "/v1/responses", _API_KEY_PATH),
    "GET": (_LISTED,),
}
"""Paths for tenants' keys, by method."""
_INNER = {TRACE_PATH: frozenset({"GET"}), DRAIN_PATH: frozenset({"GET", "POST"})}
_STRIPPED = (
    b"authorization",
    b"x-api-key",
    b"x-vllm-priority",
    b"x-data-parallel-rank",
    b"x-session-id",
    b"x-request-id",
    b"x-amzn-",
)
"""Prefixes of headers that vLLM would act on or log (ours has read the key already)."""
_FIRST_LETTERS = b"axAX"
"""Of those, so that most names are told apart by one byte."""
_PREFIX_BYTES = max(map(len, _STRIPPED))
"""What is looked at of a header's name: a client may send one of megabytes."""
_AUTHORIZATION, _API_KEY = b"authorization", b"x-api-key"
_CREDENTIALS = (_AUTHORIZATION, _API_KEY)
_PRIORITY = b"x-vllm-priority"
"""vLLM 0.32 reads a request's class here, before the body's (generate/base/serving.py)."""
_TENANTS_IN_FLIGHT = b"x-loraplane-tenants-in-flight"
_NOT_FOUND = RequestRefused(HTTPStatus.NOT_FOUND, "not_found", "There is no such route.")
_NO_KEY = RequestRefused(
    HTTPStatus.UNAUTHORIZED, "invalid_api_key", "The API key is missing or not valid."
)
_NO_SCOPE = RequestRefused(
    HTTPStatus.FORBIDDEN, "insufficient_scope", "The API key may not use this engine."
)
_STARTING = RequestRefused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "starting",
    "The engine has no snapshot yet.",
    kind="server_error",
    retry_after_seconds=2,
)
_DRAINING = RequestRefused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "draining",
    "The engine is stopping.",
    kind="server_error",
    retry_after_seconds=1,
)
_NOT_CLEARED = RequestRefused(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "waiting_for_gate",
    "The adapters are not proven yet on this build of the engine.",
    kind="server_error",
    retry_after_seconds=30,
)
_TOO_MANY = RequestRefused(
    HTTPStatus.TOO_MANY_REQUESTS,
    "rate_limit_exceeded",
    "This tenant's limit of requests in flight is reached.",
    kind="rate_limit_error",
    retry_after_seconds=1,
)
_NOT_ADMITTED = RequestRefused(
    HTTPStatus.INTERNAL_SERVER_ERROR,
    "not_admitted",
    "The request was answered without having been admitted; the answer is withheld.",
    kind="server_error",
)

_door: Door | None = None


def open_door(door: Door | None) -> None:
    """Set what the middleware asks; vLLM makes the middleware itself, and gives it no argument."""
    global _door
    _door = door


class TenancyMiddleware:
    """Wraps vLLM's application; outermost, so that nothing behind it sees an unknown request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._in_flight: dict[str, int] = {}
        """By tenant; who has none is left out."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, refuse or pass on one connection."""
        if scope["type"] != "http" or scope["path"] not in _TENANTS.get(scope["method"], ()):
            await self._other(scope, receive, send)
            return
        try:
            request = self._let_in(_door, scope)
        except RequestRefused as exc:
            if _door is not None:
                _door.count_rejection(exc.code)
            await refuse(send, exc)
            return
        guard = _Guard(request, send, must_be_admitted=scope["path"] != _LISTED)
        token = enter(request)
        try:
            await self._app(scope, receive, guard.send)
        finally:
            leave(token)
            request.release()
            tenant = request.grant.tenant
            n_left = self._in_flight[tenant] - 1
            if n_left:
                self._in_flight[tenant] = n_left
            else:
                del self._in_flight[tenant]

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._operate(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._app(scope, receive, send)

    async def _operate(self, scope: Scope, receive: Receive, send: Send) -> None:
        door, path, method = _door, scope["path"], scope["method"]
        if path in _INNER and method in _INNER[path] and door is not None:
            await self._inner(door, scope, receive, send)
        elif method != "GET":
            await refuse(send, _NOT_FOUND)
        elif path == "/health":
            await self._app(scope, receive, send)
        elif path == "/ready":
            await answer_ready(door, send)
        elif path == "/metrics" and door is not None:
            await self._metrics(door, scope, receive, send)
        else:
            await refuse(send, _NOT_FOUND)

    async def _metrics(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        if not door.is_metrics_token(_bearer(scope["headers"], may_be_api_key=False) or ""):
            await refuse(send, _NO_KEY)
            return
        await door.refresh_facts()
        await self._app(scope, receive, send)

    async def _inner(self, door: Door, scope: Scope, receive: Receive, send: Send) -> None:
        if not door.is_engine_token(_bearer(scope["headers"], may_be_api_key=False) or ""):
            await refuse(send, _NO_KEY)
        elif scope["path"] == TRACE_PATH:
            await answer_trace(door, scope, send)
        else:
            n_in_flight = sum(self._in_flight.values())
            await answer_drain(door, scope, receive, send, n_in_flight=n_in_flight)

    def _let_in(self, door: Door | None, scope: Scope) -> RequestScope:
        """Whose request it is; its headers are then those that vLLM may see.

        A key is checked once in a snapshot, and then known by the fingerprint of its header, while
        the engine lets every key in that it knows. Most of a request's time here is that of reading
        code and tables which vLLM's work has pushed out of the processor's caches.
        """
        if door is None or (table := door.table) is None:
            raise _STARTING
        credentials, kept = _split(scope["headers"])
        grant: KeyGrant | None = None
        if door.is_open and len(credentials) == 1 and credentials[0][0] == _AUTHORIZATION:
            grant = table.callers.get(door.fingerprint(credentials[0][1]))
        if grant is None:
            grant = _authorise(door, table, credentials, scope["path"])
        elif grant.expires_at is not None and grant.expires_at <= door.unix_seconds():
            raise _NO_KEY
        tenant = grant.tenant
        n_in_flight, limits = self._in_flight.get(tenant, 0), table.limits
        if limits and n_in_flight >= limits.get(tenant, math.inf):
            raise _TOO_MANY
        request = RequestScope(grant)
        scope["headers"] = kept
        if request.is_gate:
            self._slow_down(door, scope, request)
        self._in_flight[tenant] = n_in_flight + 1
        return request

    def _slow_down(self, door: Door, scope: Scope, request: RequestScope) -> None:
        """The gate waits behind tenants, and hears how many of their requests are in flight."""
        if door.gate_priority:
            scope["headers"].append((_PRIORITY, str(door.gate_priority).encode()))
        in_flight = self._in_flight.items()
        request.n_tenants_in_flight = sum(n for tenant, n in in_flight if tenant)


class _Guard:
    """Withholds a good answer that nobody admitted, and adds our headers to the others."""

    __slots__ = ("_is_withheld", "_must_be_admitted", "_request", "_send")

    def __init__(self, request: RequestScope, send: Send, *, must_be_admitted: bool) -> None:
        self._request, self._send = request, send
        self._must_be_admitted = must_be_admitted
        self._is_withheld = False

    def send(self, message: Message) -> Awaitable[None]:
        """Pass one message on; what is returned must be awaited, as with any `Send`."""
        if message["type"] == "http.response.start":
            request = self._request
            if self._must_be_admitted and request.answer is None and message["status"] < 400:
                self._is_withheld = True
                return refuse(self._send, _NOT_ADMITTED)
            if request.retry_after_seconds is not None:
                _add_header(message, b"retry-after", str(request.retry_after_seconds))
            if request.n_tenants_in_flight is not None:
                _add_header(message, _TENANTS_IN_FLIGHT, str(request.n_tenants_in_flight))
            if isinstance(request.answer, BaseModel) and request.answer.instead_of is not None:
                _add_header(message, b"x-loraplane-fallback", request.answer.instead_of)
        # No coroutine of our own: a stream has one message for every token.
        return _withhold() if self._is_withheld else self._send(message)


async def _withhold() -> None:
    """Send nothing."""


def _add_header(message: Message, name: bytes, value: str) -> None:
    message["headers"] = [*message.get("headers", ()), (name, value.encode())]


def _authorise(door: Door, table: Table, credentials: Headers, path: str) -> KeyGrant:
    """The grant of the one key among these headers, remembered in the snapshot's table."""
    key = _bearer(credentials, may_be_api_key=path == _API_KEY_PATH)
    if not key:
        raise _NO_KEY
    grant = table.keys.get(door.hash_key(key))
    if grant is None:
        raise _NO_KEY
    if grant.expires_at is not None and grant.expires_at <= door.unix_seconds():
        raise _NO_KEY
    if SCOPES.isdisjoint(grant.scopes):
        raise _NO_SCOPE
    if door.departure.is_draining:
        raise _DRAINING
    if door.waits_for_gate and SCOPE_GATE not in grant.scopes:
        raise _NOT_CLEARED
    # In one spelling alone: a client could think of others without end.
    usual = b"Bearer " + key.encode()
    if credentials == [(_AUTHORIZATION, usual)]:
        table.callers[door.fingerprint(usual)] = grant
    return grant


def _split(headers: Headers) -> tuple[Headers, Headers]:
    """Those that may name the key, and those that vLLM may see."""
    credentials, kept = [], []
    for pair in headers:
        name = pair[0]
        if not name or name[0] not in _FIRST_LETTERS:
            kept.append(pair)
        elif name in _CREDENTIALS:
            credentials.append(pair)
        elif not name[:_PREFIX_BYTES].lower().startswith(_STRIPPED):
            kept.append(pair)
    return credentials, kept


def _bearer(headers: Headers, *, may_be_api_key: bool) -> str | None:
    """The one key of a request; None when there is none, or when there are several."""
    found: str | None = None
    for name, value in headers:
        if name == _AUTHORIZATION:
            kind, _, key = value.decode("latin-1").partition(" ")
            key = key.strip() if kind.lower() == "bearer" else ""
        elif may_be_api_key and name == _API_KEY:
            key = value.decode("latin-1").strip()
        else:
            continue
        if found is not None and key != found:
            return None
        found = key
    return found
