"""A thin client of the controller's HTTP API: paths, typed errors, and streaming uploads.

It knows no verb and prints nothing; `serving.cli.views` shows what it returns.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from serving.cli.errors import RequestRefused, ServerFailed, Unreachable

Json = dict[str, Any]

_TIMEOUT = httpx.Timeout(30.0, connect=5.0, write=120.0)
_UPLOAD_TIMEOUT = httpx.Timeout(600.0, connect=5.0)
_AS_EVENTS = {"Accept": "text/event-stream"}
_FIX_BY_STATUS = {
    401: "Set LORAPLANE_TOKEN (or --token) to the admin token (DATA_DIR/admin-token) or a key.",
    403: "Use the admin token, or a key with the needed scope.",
}


class ControllerClient:
    """Calls one controller; close it, or use it as a context manager."""

    def __init__(
        self, url: str, token: str | None, *, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(
            base_url=self.url, headers=headers, timeout=_TIMEOUT, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def fetch(self, path: str, **params: Any) -> Any:
        """GET a JSON resource; parameters that are None are left out.

        Raises:
            Unreachable, ServerFailed, RequestRefused: see `serving.cli.errors`.
        """
        given = {key: value for key, value in params.items() if value is not None}
        return self._answer(self._send("GET", path, params=given))

    def send(self, method: str, path: str, body: Json | None = None) -> Any:
        """POST, PATCH or DELETE; the JSON answer, or None where there is none."""
        return self._answer(
            self._send(method, path, json=body) if body is not None else self._send(method, path)
        )

    def fetch_bytes(self, path: str, **params: Any) -> bytes:
        """GET a resource that is not JSON, as it is."""
        given = {key: value for key, value in params.items() if value is not None}
        response = self._send("GET", path, params=given, timeout=_UPLOAD_TIMEOUT)
        self._check(response)
        return response.content

    def download(self, path: str, target: Path, **params: Any) -> int:
        """GET a resource of any length into a file, which appears when it is whole; its bytes.

        Raises:
            Unreachable, ServerFailed, RequestRefused: see `serving.cli.errors`; no file then.
            OSError: the file cannot be written.
        """
        draft = target.with_name(f".{target.name}.part")
        try:
            with self._http.stream("GET", path, params=params, timeout=_UPLOAD_TIMEOUT) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                with draft.open("wb") as file:
                    for chunk in response.iter_bytes():
                        file.write(chunk)
            size = draft.stat().st_size
            draft.replace(target)
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise Unreachable(url=self.url, reason=str(exc) or type(exc).__name__) from exc
        finally:
            draft.unlink(missing_ok=True)
        return size

    def put_suite(
        self, tenant: str, suite: str, path: Path, *, training: Path | None = None
    ) -> Any:
        """Store a suite from a JSONL file; with a training set it is compared with it first."""
        target = f"/v1/tenants/{tenant}/suites/{suite}"
        if training is None:
            return self.put_content(target, path.read_bytes(), media_type="application/jsonl")
        with path.open("rb") as cases, training.open("rb") as documents:
            parts = {
                "suite": (path.name, cases, "application/jsonl"),
                "training": (training.name, documents, "application/jsonl"),
            }
            # The answer comes when the comparison is over.
            response = self._send("PUT", target, files=parts, timeout=_UPLOAD_TIMEOUT)
        return self._answer(response)

    def put_content(self, path: str, content: bytes, *, media_type: str) -> Any:
        """PUT a document as it is; the JSON answer."""
        headers = {"Content-Type": media_type}
        return self._answer(self._send("PUT", path, content=content, headers=headers))

    def push(
        self,
        tenant: str,
        adapter: str,
        files: Sequence[Path],
        *,
        form: Mapping[str, str],
        on_bytes: Callable[[int], None],
    ) -> Json:
        """Upload an artifact's files; `on_bytes` hears how many more bytes went out."""
        with ExitStack() as stack:
            parts = [
                (
                    path.name,
                    (path.name, _CountingFile(stack.enter_context(path.open("rb")), on_bytes)),
                )
                for path in files
            ]
            response = self._send(
                "POST",
                f"/v1/tenants/{tenant}/adapters/{adapter}/versions",
                files=parts,
                data=dict(form),
                timeout=_UPLOAD_TIMEOUT,
            )
        answer: Json = self._answer(response)
        return answer

    def report_html(self, version_path: str) -> str:
        """The HTML form of a version's report."""
        response = self._send("GET", f"{version_path}/report", headers={"Accept": "text/html"})
        self._check(response)
        return response.text

    def follow_events(self, **params: Any) -> Iterator[Json]:
        """Audit events as they happen; ends when the controller closes the stream."""
        given = {key: value for key, value in params.items() if value is not None}
        timeout = httpx.Timeout(30.0, read=None)
        try:
            with self._http.stream(
                "GET", "/v1/events", params=given, headers=_AS_EVENTS, timeout=timeout
            ) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        yield json.loads(line.removeprefix("data:"))
        except httpx.TransportError as exc:
            raise Unreachable(url=self.url, reason=type(exc).__name__) from exc

    def version_events(self, version_path: str) -> Iterator[tuple[str, Json]]:
        """(event, data) of a version as the controller streams them, until the event `end`.

        A heartbeat repeats the last event, so that its reader can look at the clock. A controller
        that does not stream, refuses, or goes away ends the events early, whatever the cause: who
        reads on asks for the version itself, and hears of the cause there.
        """
        timeout = httpx.Timeout(30.0, connect=5.0)
        try:
            with self._http.stream(
                "GET", version_path, headers=_AS_EVENTS, timeout=timeout
            ) as response:
                kind = response.headers.get("content-type", "")
                if response.is_success and kind.startswith("text/event-stream"):
                    yield from _read_events(response.iter_lines())
        except (httpx.TransportError, httpx.InvalidURL, ValueError):
            return

    def _send(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **kwargs)
        except (httpx.TransportError, httpx.InvalidURL) as exc:
            raise Unreachable(url=self.url, reason=str(exc) or type(exc).__name__) from exc

    def _answer(self, response: httpx.Response) -> Any:
        self._check(response)
        return response.json() if response.content else None

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        problem = _problem(response)
        if response.status_code >= 500:
            detail = str(problem.get("detail") or problem.get("title"))
            raise ServerFailed(url=self.url, status=response.status_code, detail=detail)
        fix = _FIX_BY_STATUS.get(response.status_code, "")
        raise RequestRefused(status=response.status_code, problem=problem, fix=fix)


def _read_events(lines: Iterator[str]) -> Iterator[tuple[str, Json]]:
    """Server-Sent Events that hold one line of JSON each; after `end` nothing is read.

    Raises:
        ValueError: the data is not JSON.
    """
    name, last = "message", None
    for line in lines:
        if line.startswith("event:"):
            name = line.removeprefix("event:").strip()
        elif line.startswith("data:"):
            last = (name, json.loads(line.removeprefix("data:")))
            yield last
            if name == "end":
                return
        elif line.startswith(":") and last is not None:
            yield last


def _problem(response: httpx.Response) -> Json:
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        return body
    return {"title": response.reason_phrase, "detail": response.text[:300]}


class _CountingFile(io.RawIOBase):
    """A file opened for reading that tells how far it has been read.

    `fileno` lets httpx find the length, so that the upload has a Content-Length.
    """

    def __init__(self, file: io.BufferedReader, on_bytes: Callable[[int], None]) -> None:
        self._file = file
        self._on_bytes = on_bytes

    def fileno(self) -> int:
        return self._file.fileno()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._on_bytes(len(data))
        return data

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()
