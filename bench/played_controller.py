"""A controller as an engine sees it: two internal routes, over a snapshot that a benchmark sets.

For measuring what an engine does with a new snapshot, without the gate and the database in it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from serving.contract import FleetSnapshot, encode, engine_token


class PlayedController:
    """The desired state; `publish` wakes every engine that waits for a newer one. Thread-safe."""

    def __init__(self, first: FleetSnapshot, *, cluster_secret: str) -> None:
        self.snapshot, self.url = first, ""
        self._token = engine_token(cluster_secret)
        self._changed = threading.Condition()

    def publish(self, **changes: Any) -> int:
        """Replace fields of the snapshot; the new revision."""
        with self._changed:
            revision = self.snapshot.revision + 1
            self.snapshot = msgspec.structs.replace(self.snapshot, revision=revision, **changes)
            self._changed.notify_all()
        return revision

    def pull(self, *, after: int, wait_seconds: float) -> bytes | None:
        """The snapshot once its revision is above `after`; None after the wait."""
        with self._changed:
            if self._changed.wait_for(lambda: self.snapshot.revision > after, wait_seconds):
                return encode(self.snapshot)
        return None

    def is_known(self, authorization: str | None) -> bool:
        """Whether this header is that of the fleet's engines."""
        return authorization == f"Bearer {self._token}"


@contextmanager
def running_controller(played: PlayedController) -> Iterator[PlayedController]:
    """Serve it on a free port of 127.0.0.1 for as long as the block lasts."""

    class Handler(_Handler):
        controller = played

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False  # An engine's long poll would hold up the end.
    played.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield played
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    controller: PlayedController
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        after = int(asked.get("after", ["-1"])[0])
        wait = float(asked.get("wait", ["0"])[0])
        if not self.controller.is_known(self.headers.get("Authorization")):
            self._answer(HTTPStatus.UNAUTHORIZED)
        elif (body := self.controller.pull(after=after, wait_seconds=wait)) is None:
            self._answer(HTTPStatus.NOT_MODIFIED)
        else:
            self._answer(HTTPStatus.OK, body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(HTTPStatus.NO_CONTENT)

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        if status not in (HTTPStatus.NOT_MODIFIED, HTTPStatus.NO_CONTENT):
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return
