"""What needs a real socket: streaming bodies, long-polls, event streams, a clean stop."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from serving.contract import decode_snapshot, engine_token
from serving.controller.app import create_app
from serving.settings import ControllerSettings
from tests.builders.controller import ADMIN, CONFIG, SECRET, a_server, bearer, form_of, settings_in
from tests.builders.registry import Clock

VERSIONS = "/v1/tenants/acme/adapters/support/versions"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    app = create_app(settings_in(tmp_path), has_loop=False)
    with a_server(app) as url, httpx.Client(base_url=url, headers=bearer(ADMIN)) as client:
        client.post("/v1/tenants", json={"id": "acme"})
        yield client


def test_an_upload_larger_than_memory_allows_streams_to_disk(client: httpx.Client) -> None:
    megabytes = 64

    def body() -> Iterator[bytes]:
        head = 'Content-Disposition: form-data; name="{0}"; filename="{0}"\r\n\r\n'
        yield b"--XX\r\n" + head.format(CONFIG[0]).encode() + CONFIG[1] + b"\r\n--XX\r\n"
        yield head.format("adapter_model.safetensors").encode()
        for _ in range(megabytes * 16):
            yield b"\0" * 65_536
        yield b"\r\n--XX--\r\n"

    tracemalloc.start()
    answer = client.post(
        VERSIONS,
        content=body(),
        headers={"Content-Type": "multipart/form-data; boundary=XX"},
        timeout=120,
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert answer.status_code == 202
    assert answer.json()["size_bytes"] == megabytes * 1024**2 + len(CONFIG[1])
    assert peak < 32 * 1024**2


def test_an_upload_that_breaks_off_leaves_nothing(client: httpx.Client, tmp_path: Path) -> None:
    def body() -> Iterator[bytes]:
        yield b'--XX\r\nContent-Disposition: form-data; name="adapter_config.json"\r\n\r\n{'
        raise ConnectionError

    with pytest.raises(ConnectionError):
        client.post(
            VERSIONS,
            content=body(),
            headers={"Content-Type": "multipart/form-data; boundary=XX"},
        )

    deadline = time.monotonic() + 60
    while list((tmp_path / "uploads").rglob("adapter_config.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert client.get("/v1/tenants/acme/adapters").json() == {"adapters": []}


def test_a_long_poll_ends_with_the_change(client: httpx.Client) -> None:
    headers = bearer(engine_token(SECRET))
    now = decode_snapshot(client.get("/internal/v1/snapshot", headers=headers).content)
    change = threading.Timer(0.3, client.post, ["/v1/tenants"], {"json": {"id": "globex"}})
    change.start()
    began = time.monotonic()

    answer = client.get(
        f"/internal/v1/snapshot?after={now.revision}&wait=20", headers=headers, timeout=30
    )

    assert 0.2 < time.monotonic() - began < 5
    later = decode_snapshot(answer.content)
    assert later.revision > now.revision
    assert [tenant.tenant for tenant in later.tenants] == ["acme", "globex"]
    change.join()


def test_another_replicas_change_is_seen_within_seconds(
    client: httpx.Client, tmp_path: Path
) -> None:
    headers = bearer(engine_token(SECRET))
    now = decode_snapshot(client.get("/internal/v1/snapshot", headers=headers).content)

    with a_server(create_app(settings_in(tmp_path), has_loop=False)) as other:
        httpx.post(f"{other}/v1/tenants", json={"id": "globex"}, headers=bearer(ADMIN))
        answer = client.get(
            f"/internal/v1/snapshot?after={now.revision}&wait=10", headers=headers, timeout=30
        )

    assert len(decode_snapshot(answer.content).tenants) == 2


def test_events_stream_and_resume_after_the_last_one_seen(client: httpx.Client) -> None:
    def read(n: int, headers: dict[str, str]) -> list[dict[str, object]]:
        sent = {"Accept": "text/event-stream", **headers}
        with client.stream("GET", "/v1/events", headers=sent, timeout=30) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            found = []
            for line in response.iter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
                if len(found) == n:
                    return found
        raise AssertionError("the stream ended early")

    client.post(VERSIONS, files=form_of())
    client.post(f"{VERSIONS}/1/retire", json={"reason": "not needed"})
    first = read(1, {"Last-Event-ID": "0"})
    rest = read(2, {"Last-Event-ID": str(first[0]["id"])})

    assert first[0]["action"] == "create_tenant"
    assert [(row["action"], row["to"]) for row in rest] == [
        ("acknowledge", "validating"),
        ("retire", "retired"),
    ]


def test_an_event_stream_begins_with_what_comes_next(client: httpx.Client) -> None:
    change = threading.Timer(0.5, client.post, ["/v1/tenants"], {"json": {"id": "globex"}})
    change.start()

    with client.stream(
        "GET", "/v1/events", headers={"Accept": "text/event-stream"}, timeout=30
    ) as response:
        line = next(line for line in response.iter_lines() if line.startswith("data: "))

    assert json.loads(line.removeprefix("data: "))["subject"] == "globex"
    change.join()


def test_an_event_stream_ends_soon_after_its_key_is_revoked(tmp_path: Path) -> None:
    clock = Clock()
    app = create_app(settings_in(tmp_path), clock=clock, has_loop=False)
    with a_server(app) as url, httpx.Client(base_url=url, headers=bearer(ADMIN)) as client:
        client.post("/v1/tenants", json={"id": "acme"})
        made = client.post("/v1/tenants/acme/keys", json={}).json()
        sent = {"Accept": "text/event-stream", **bearer(made["key"])}
        with httpx.stream("GET", f"{url}/v1/events", headers=sent, timeout=30) as response:
            lines = response.iter_lines()
            next(lines)
            clock.advance(20)
            while ": still here" not in next(lines):
                pass
            client.delete(f"/v1/tenants/acme/keys/{made['id']}")
            clock.advance(20)

            rest = list(lines)

    assert any("revoke_key" in line for line in rest)
    assert not any("still here" in line for line in rest)


def test_the_loop_runs_beside_the_api_and_hears_of_uploads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.controller.loop._IDLE_SECONDS", 3600.0)
    app = create_app(settings_in(tmp_path))
    with a_server(app) as url, httpx.Client(base_url=url, headers=bearer(ADMIN)) as client:
        client.post("/v1/tenants", json={"id": "acme"})
        client.post(VERSIONS, files=form_of())
        ready = client.get("/readyz")
        deadline = time.monotonic() + 60
        while (shown := client.get(f"{VERSIONS}/1").json())["error"] is None:
            assert time.monotonic() < deadline, "nobody told the loop"
            time.sleep(0.05)

    assert ready.status_code == 200
    # Without a base model nothing can be said of an adapter, so nothing is.
    assert shown["state"] == "validating"


@pytest.mark.slow
def test_what_is_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    port, rng = _free_port(), random.Random(7)
    settings = settings_in(tmp_path, controller_port=port)
    acknowledged: dict[str, str] = {}
    for life in range(4):
        process = _start(settings)
        _wait_ready(f"http://127.0.0.1:{port}", process)
        killer = threading.Timer(rng.uniform(0.05, 0.8), process.kill)
        killer.start()
        _push_until_dead(port, life, acknowledged)
        process.wait(timeout=120)
        killer.join()

    process = _start(settings)
    try:
        _wait_ready(f"http://127.0.0.1:{port}", process)
        url = f"http://127.0.0.1:{port}/v1/adapters"
        (adapter,) = httpx.get(url, headers=bearer(ADMIN)).json()["adapters"]
    finally:
        process.kill()
        process.wait(timeout=120)

    assert acknowledged
    found = {version["name"]: version["digest"] for version in adapter["versions"]}
    assert acknowledged.items() <= found.items()
    for digest in found.values():
        folder = tmp_path / "artifacts" / "sha256" / digest[7:9] / digest[7:]
        assert {path.name for path in folder.iterdir()} >= {name for name, _ in form_of()}
    others = [path for path in (tmp_path / "uploads").iterdir() if path.is_dir()]
    assert len(others) == 1, "folders of killed processes are removed at the next start"


def _push_until_dead(port: int, life: int, acknowledged: dict[str, str]) -> None:
    with (
        contextlib.suppress(httpx.TransportError),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=bearer(ADMIN)) as client,
    ):
        client.post("/v1/tenants", json={"id": "acme"})
        for n in itertools.count():
            weights = f"{life}-{n}".encode() * 50_000
            answer = client.post(VERSIONS, files=form_of(weights))
            assert answer.status_code == 202, answer.text
            acknowledged[answer.json()["name"]] = answer.json()["digest"]


def _start(settings: ControllerSettings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "serving.controller"],
        env={**os.environ, **settings.to_environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_the_process_starts_from_its_environment_and_stops_while_engines_wait(
    tmp_path: Path,
) -> None:
    port = _free_port()
    process = _start(settings_in(tmp_path, controller_port=port))
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_ready(url, process)
        long_poll = threading.Thread(
            target=lambda: httpx.get(
                f"{url}/internal/v1/snapshot?after=999&wait=50",
                headers=bearer(engine_token(SECRET)),
                timeout=60,
            )
        )
        long_poll.start()
        time.sleep(0.5)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
        long_poll.join(timeout=5)
    finally:
        process.kill()

    # Open requests may take ten seconds to end: long polls were not waited for.
    assert time.monotonic() - began < 9
    assert not long_poll.is_alive()
    assert ADMIN.encode() not in output
    assert SECRET.encode() not in output


def test_the_controller_imports_neither_torch_nor_vllm() -> None:
    code = (
        "import sys, serving.controller.app, serving.controller.__main__;"
        "bad = {'torch', 'vllm', 'transformers', 'peft'} & sys.modules.keys();"
        "sys.exit(str(sorted(bad)) if bad else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()


def _wait_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    output = process.communicate(timeout=60)[0] if process.poll() is not None else b""
    raise AssertionError(f"not ready: {output.decode()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
