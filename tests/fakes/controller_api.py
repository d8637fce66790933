"""A controller's HTTP API with state and no engine: a pushed version walks to a given end.

Each look at a version moves it one state on, so that a test needs no clock.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ADMIN = "the-admin-token"
ROAD = ["validating", "evaluating", "staging", "live"]


class ControllerApi:
    """What the server knows; `ends` says in which state the next pushed version stops."""

    def __init__(self) -> None:
        self.ends = "live"
        self.findings: list[dict[str, Any]] = []
        self.error: dict[str, Any] | None = None
        self.tenants: list[str] = []
        self.received_bytes = 0
        self.versions: dict[str, dict[str, Any]] = {}
        self.url = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        parts = path.partition("?")[0].strip("/").split("/")
        if parts == ["v1", "tenants"] and method == "POST":
            self.tenants.append(json.loads(body)["id"])
            return 201, {"id": self.tenants[-1]}
        if parts == ["v1", "engines"]:
            counts = [{"name": "acme/support@1", "requests": 5, "evictions_slot": 2}]
            report = {"engine_id": "engine-0", "is_ready": True, "counts": counts, "active": []}
            return 200, {"engines": [{"id": "engine-0", "state": "ready", "report": report}]}
        if parts[-1] == "versions" and method == "POST":
            return 202, self._push(parts[2], parts[4], body)
        if len(parts) == 7 and method == "GET":
            return self._look(f"{parts[2]}/{parts[4]}@{parts[6]}")
        return 404, {"code": "not_found", "title": "There is no such thing here."}

    def _push(self, tenant: str, adapter: str, body: bytes) -> dict[str, Any]:
        self.received_bytes = len(body)
        name = f"{tenant}/{adapter}@1"
        self.versions[name] = {"name": name, "version": 1, "state": "validating", "findings": []}
        return {"version": 1, "digest": "sha256:0", "state": "validating"}

    def _look(self, name: str) -> tuple[int, Any]:
        if name not in self.versions:
            return 404, {"code": "not_found", "title": "There is no such thing here."}
        version = self.versions[name]
        shown = dict(version)
        if version["state"] in ROAD[:-1]:
            ahead = ROAD[ROAD.index(version["state"]) + 1]
            is_last = self.ends not in ROAD and ahead == "staging"
            version["state"] = self.ends if is_last else ahead
            version["findings"], version["error"] = self.findings, self.error
        return 200, shown


@contextmanager
def running_controller_api() -> Iterator[ControllerApi]:
    api = ControllerApi()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = 401, {"code": "unauthenticated", "title": "A token is needed."}
            if self.headers.get("Authorization") == f"Bearer {ADMIN}":
                status, answer = api.answer(self.command, self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
