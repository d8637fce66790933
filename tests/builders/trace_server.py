"""Serves miniature engines' access traces over HTTP, as a real engine's plugin does."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from serving.contract import TracePage, engine_token
from tests.builders.controller import SECRET
from tests.builders.lru_fleet import LruEngine


@contextlib.contextmanager
def a_trace_server(engines: Mapping[str, LruEngine]) -> Iterator[str]:
    """Yields its URL; an engine's own is `URL/ENGINE_ID`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            engine_id, _, path = address.path.strip("/").partition("/")
            is_known = self.headers["Authorization"] == f"Bearer {engine_token(SECRET)}"
            if path != "loraplane/v1/trace" or not is_known or engine_id not in engines:
                self.send_error(404)
                return
            asked = {name: int(values[0]) for name, values in parse_qs(address.query).items()}
            body = msgspec.json.encode(_page(engines[engine_id], **asked))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=30)


def _page(engine: LruEngine, *, after: int, limit: int) -> TracePage:
    events = engine.events[after : after + limit]
    return TracePage(engine.engine_id, after, after + len(events), len(engine.events), events)
