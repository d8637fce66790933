"""Engines' trace routes over real HTTP: pages of event lists, of a ring that may lose its start."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from serving.contract import TraceEvent, TraceKind, TracePage, engine_token


@dataclass
class Ring:
    """One engine's trace; `first` is the oldest position that is left."""

    engine_id: str = "engine-0"
    events: list[TraceEvent] = field(default_factory=list)
    first: int = 0
    status: int = 200
    max_page: int = 10_000
    fails_after: int | None = None
    """Pages that are answered before the engine goes away."""
    url: str = ""

    def admit(self, *names: str, at: float, step: float = 1.0, is_gate: bool = False) -> None:
        """A request for each name, `step` seconds apart, each ended before the next begins."""
        for name in names:
            position = len(self.events)
            for kind in (TraceKind.ADMITTED, TraceKind.FINISHED):
                self.events.append(
                    TraceEvent(
                        len(self.events), at, kind, name, position, 5, 7, 0.1, is_gate=is_gate
                    )
                )
            at += step

    def page(self, after: int, limit: int) -> TracePage:
        first = min(max(after, self.first), len(self.events))
        events = self.events[first : first + min(limit, self.max_page)]
        return TracePage(self.engine_id, first, first + len(events), len(self.events), events)

    def answer(self) -> int:
        """The status of the next page."""
        if self.fails_after is not None:
            self.fails_after -= 1
            if self.fails_after < 0:
                return 500
        return self.status


@contextmanager
def served_ring(secret: str, ring: Ring) -> Iterator[Ring]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            split = urlsplit(self.path)
            asked = parse_qs(split.query)
            is_known = self.headers.get("Authorization") == f"Bearer {engine_token(secret)}"
            status, data = 404, b"{}"
            if not is_known:
                status = 401
            elif split.path == "/loraplane/v1/trace":
                status = ring.answer()
                data = msgspec.json.encode(
                    ring.page(int(asked["after"][0]), int(asked["limit"][0]))
                )
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    ring.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield ring
    finally:
        server.shutdown()
        server.server_close()
