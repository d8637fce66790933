"""Places that adapters are fetched from: a bucket of moto's S3 server, and blobs behind one tiny
HTTP server that answers as Azure's and Google's do to a reader."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import boto3  # type: ignore[import-untyped]
from moto.server import ThreadedMotoServer

WHEN = "Wed, 21 Oct 2026 07:28:00 GMT"


@dataclass
class S3Bucket:
    """A bucket of its own, with the credentials that a source names it by."""

    endpoint: str
    name: str
    bucket: Any

    @property
    def credentials(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_ENDPOINT_URL": self.endpoint,
        }

    def put_folder(self, folder: Path, prefix: str) -> str:
        """Upload a folder's files; the URI of the source."""
        for path in sorted(folder.iterdir()):
            self.bucket.upload_file(str(path), f"{prefix}/{path.name}")
        return f"s3://{self.name}/{prefix}"

    def put(self, key: str, data: bytes) -> None:
        self.bucket.put_object(Key=key, Body=data)

    def remove(self, key: str) -> None:
        self.bucket.Object(key).delete()


@contextmanager
def s3_server() -> Iterator[str]:
    """moto's server on a free port; its endpoint."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_bucket(endpoint: str) -> S3Bucket:
    """A new bucket on a running server."""
    name = f"b-{uuid.uuid4().hex}"
    s3 = boto3.resource(
        "s3", endpoint_url=endpoint, region_name="us-east-1",
        aws_access_key_id="key", aws_secret_access_key="secret",
    )  # fmt: skip
    s3.create_bucket(Bucket=name)
    return S3Bucket(endpoint, name, s3.Bucket(name))


@dataclass
class BlobServer:
    """Blobs by the path of their URL; answers GET and HEAD."""

    url: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    status: int | None = None
    """Stands for every answer."""
    asked: list[str] = field(default_factory=list)
    """Paths with their queries, in order."""
    authorizations: list[str | None] = field(default_factory=list)
    grows: bool = False
    """Whether a GET sends another content than the HEAD before it announced."""


@contextmanager
def blob_server() -> Iterator[BlobServer]:
    """A server on a free port of 127.0.0.1."""
    state = BlobServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(has_body=False)

        def do_GET(self) -> None:
            self._answer(has_body=True)

        def log_message(self, *_: Any) -> None:
            return

        def _answer(self, *, has_body: bool) -> None:
            state.asked.append(self.path)
            state.authorizations.append(self.headers.get("authorization"))
            data = state.blobs.get(unquote(urlsplit(self.path).path))
            status = state.status or (200 if data is not None else 404)
            body = data if data is not None and status == 200 else b"said by the server"
            if state.grows and has_body:
                body += b"more"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Last-Modified", WHEN)
            self.send_header("ETag", f'"{len(body):x}-{hash(body):x}"')
            self.end_headers()
            if has_body:
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
