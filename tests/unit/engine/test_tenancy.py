"""What the front door does to every request, against the plain definition of it."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.departure import Departure
from serving.engine.resolution import compile_table
from serving.engine.scope import Door, current_scope
from serving.engine.tenancy import TenancyMiddleware, open_door
from tests.builders.snapshots import key, snapshot

STRIPPED = (
    b"authorization", b"x-api-key", b"x-vllm-priority", b"x-data-parallel-rank", b"x-session-id",
    b"x-request-id", b"x-amzn-",
)  # fmt: skip
KNOWN = b"Bearer good"
NAMES = st.sampled_from([*STRIPPED, b"X-Amzn-Trace", b"x-amzn-trace", b"accept", b"x-api", b"a"])
VALUES = st.sampled_from([KNOWN, b"bearer  good ", b"Basic good", b"good", b"Bearer bad", b""])
HEADERS = st.lists(st.tuples(NAMES | st.binary(min_size=1, max_size=4), VALUES), max_size=6)


class _Door:
    """Knows one key; hashes nothing, and counts what it was asked to hash."""

    def __init__(self, *, expires_at: float | None = None) -> None:
        self.is_open, self.now, self.n_hashed = True, 0.0, 0
        self.departure = Departure(lambda: 0.0)
        self.waits_for_gate, self.gate_priority = False, 0
        grant = key("good", expires_at=expires_at)
        self.table = compile_table(snapshot(keys=(grant,)), gate_key_hash="gate")
        self.table = type(self.table)(**{**_fields(self.table), "keys": {"good": grant}})
        self.rejections: list[str] = []

    def hash_key(self, text: str) -> str:
        self.n_hashed += 1
        return text

    def fingerprint(self, credential: bytes) -> bytes:
        return credential

    def unix_seconds(self) -> float:
        return self.now

    def count_rejection(self, reason: str) -> None:
        self.rejections.append(reason)


def _fields(table: Any) -> dict[str, Any]:
    return {name: getattr(table, name) for name in table.__slots__}


def _ask(
    headers: list[tuple[bytes, bytes]], path: str = "/v1/completions", door: _Door | None = None
) -> tuple[int, list[tuple[bytes, bytes]]]:
    """(status, headers that the application saw) of one request through the door."""
    seen: list[tuple[bytes, bytes]] = []
    statuses: list[int] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert current_scope().grant.tenant == "acme"
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "path": path, "method": "POST", "headers": headers}
    open_door(cast("Door", door or _Door()))
    try:
        asyncio.run(TenancyMiddleware(app)(scope, receive, send))
    finally:
        open_door(None)
    return statuses[0], seen


def _the_one_key(headers: list[tuple[bytes, bytes]], *, may_be_api_key: bool) -> str | None:
    """The plain definition: all keys that are named, if they are one and the same."""
    keys = set()
    for name, value in headers:
        text = value.decode("latin-1")
        if name == b"authorization":
            kind, _, rest = text.partition(" ")
            keys.add(rest.strip() if kind.lower() == "bearer" else "")
        elif name == b"x-api-key" and may_be_api_key:
            keys.add(text.strip())
    return keys.pop() if len(keys) == 1 else None


@given(HEADERS, st.sampled_from(["/v1/completions", "/v1/messages"]), st.booleans())
def test_a_request_passes_with_one_known_key_and_without_the_headers_that_vllm_would_act_on(
    headers: list[tuple[bytes, bytes]], path: str, has_been_here: bool
) -> None:
    door = _Door()
    if has_been_here:
        assert _ask([(b"authorization", KNOWN)], door=door)[0] == 400
    status, seen = _ask(headers, path, door)

    if _the_one_key(headers, may_be_api_key=path == "/v1/messages") == "good":
        assert status == 400  # The application's own.
        assert seen == [pair for pair in headers if not pair[0].lower().startswith(STRIPPED)]
    else:
        assert (status, seen) == (401, [])


def test_a_key_is_hashed_at_its_first_request_alone() -> None:
    door = _Door()

    for _ in range(3):
        assert _ask([(b"authorization", KNOWN)], door=door)[0] == 400

    assert door.n_hashed == 1


@given(st.lists(st.sampled_from([b"Bearer", b"bearer", b"BEARER", b" ", b"  ", b"\t"]), max_size=4))
def test_however_a_key_is_written_one_spelling_is_remembered(parts: list[bytes]) -> None:
    door = _Door()

    _ask([(b"authorization", b"".join(parts) + b" good ")], door=door)
    _ask([(b"authorization", KNOWN)], door=door)

    assert list(door.table.callers) == [KNOWN]


def test_a_remembered_key_expires_all_the_same() -> None:
    door = _Door(expires_at=5.0)

    assert _ask([(b"authorization", KNOWN)], door=door)[0] == 400
    door.now = 5.0
    assert _ask([(b"authorization", KNOWN)], door=door) == (401, [])


def test_a_remembered_header_is_none_under_another_name() -> None:
    door = _Door()

    assert _ask([(b"authorization", KNOWN)], "/v1/messages", door)[0] == 400
    assert _ask([(b"x-api-key", KNOWN)], "/v1/messages", door)[0] == 401
    assert _ask([(b"proxy-authorization", KNOWN)], "/v1/messages", door)[0] == 401


def test_many_headers_that_are_to_be_stripped_are_all_stripped() -> None:
    many = [(b"x-amzn-%d" % number, b"") for number in range(2000)]

    status, seen = _ask(
        [*many, (b"authorization", KNOWN), (b"accept", b"*/*"), *many], "/v1/messages"
    )

    assert (status, seen) == (400, [(b"accept", b"*/*")])


def test_nothing_of_a_long_header_name_is_kept_after_its_request() -> None:
    tracemalloc.start()
    for number in range(4):
        _ask([(b"%d" % number * 1_000_000, b""), (b"authorization", KNOWN)], "/v1/completions")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert kept < 1_000_000
