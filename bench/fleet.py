"""A real fleet for benchmarks: `loraplane up` in a folder, and the calls that benchmarks make."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_READY_SECONDS = 400.0
_STOP_SECONDS = 120.0
_POLL_SECONDS = 0.5
_RESTING = frozenset(
    {"live", "passed", "failed", "inconclusive", "rejected", "superseded", "retired"}
)
_ARTIFACT = (".json", ".safetensors")


class FleetFailed(Exception):
    """The fleet did not come up, or refused what a benchmark needs; the reason is in the text."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """One controller and one engine that run."""

    url: str
    engine_url: str
    admin_token: str
    folder: Path

    def call(self, method: str, path: str, **options: Any) -> Any:
        """A call of the controller's API as admin; its JSON.

        Raises:
            FleetFailed: an error status.
        """
        response = httpx.request(
            method,
            f"{self.url}{path}",
            headers={"Authorization": f"Bearer {self.admin_token}"},
            timeout=120,
            trust_env=False,
            **options,
        )
        if response.is_error:
            raise FleetFailed(f"{method} {path}: {response.status_code} {response.text[:1000]}")
        return response.json() if response.content else None

    def make_tenant(self, tenant: str, *, scopes: tuple[str, ...] = ("inference",)) -> str:
        """Make a tenant; a key of it, once the engine knows that."""
        self.call("POST", "/v1/tenants", json={"id": tenant})
        body = {"name": "bench", "scopes": list(scopes)}
        key = str(self.call("POST", f"/v1/tenants/{tenant}/keys", json=body)["key"])
        headers = {"Authorization": f"Bearer {key}"}
        listing = f"{self.engine_url}/v1/models"
        while httpx.get(listing, headers=headers, timeout=10, trust_env=False).status_code == 401:
            time.sleep(_POLL_SECONDS)
        return key

    def push(self, name: str, adapter: Path, **form: str) -> str:
        """Upload a folder as the next version of `tenant/adapter`; the version's path."""
        tenant, _, short = name.partition("/")
        prefix = f"/v1/tenants/{tenant}/adapters/{short}/versions"
        with contextlib.ExitStack() as stack:
            files = [
                (path.name, (path.name, stack.enter_context(path.open("rb"))))
                for path in sorted(adapter.iterdir())
                if path.suffix in _ARTIFACT
            ]
            made = self.call("POST", prefix, files=files, data=form)
        return f"{prefix}/{made['version']}"

    def wait(self, version: str, *, seconds: float) -> dict[str, Any]:
        """The version once it rests.

        Raises:
            FleetFailed: still on its way after so long.
        """
        deadline = time.monotonic() + seconds
        while True:
            shown: dict[str, Any] = self.call("GET", version)
            if shown["state"] in _RESTING:
                return shown
            if time.monotonic() > deadline:
                raise FleetFailed(f"{version} is {shown['state']} after {seconds:.0f} s: {shown}")
            time.sleep(_POLL_SECONDS)

    def report(self, version: str) -> dict[str, Any]:
        """The gate's report on a version."""
        report: dict[str, Any] = self.call("GET", f"{version}/report")
        return report


@contextmanager
def running_fleet(
    base: Path,
    folder: Path,
    *,
    profile: Mapping[str, Any],
    environment: Mapping[str, str] | None = None,
) -> Iterator[Fleet]:
    """Start controller and engine in `folder` (new, or of a stopped fleet), and stop them again.

    Raises:
        FleetFailed: not ready in time; the logs' last lines are in the text.
    """
    folder.mkdir(parents=True, exist_ok=True)
    profile_file = folder / "profile.yaml"
    profile_file.write_text(json.dumps(dict(profile)))
    ports = _free_ports(2)
    command = [
        sys.executable, "-m", "serving.cli", "up", "--model", str(base),
        "--data-dir", str(folder), "--profile", str(profile_file),
        "--controller-port", str(ports[0]), "--engine-port", str(ports[1]),
    ]  # fmt: skip
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(environment or {}),
            start_new_session=True,
        )
    url, engine_url = (f"http://127.0.0.1:{port}" for port in ports)
    try:
        _wait_ready(process, folder, (f"{url}/readyz", f"{engine_url}/ready"))
        token = (folder / "admin-token").read_text().strip()
        yield Fleet(url, engine_url, token, folder)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LORAPLANE_")}
    quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "NO_PROXY": "127.0.0.1"}
    return {**kept, **quiet, **more}


def _wait_ready(process: subprocess.Popen[bytes], folder: Path, urls: tuple[str, ...]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not all(_answers(url) for url in urls):
        if process.poll() is not None or time.monotonic() > deadline:
            logs = [folder / "up.log", *sorted((folder / "logs").glob("*.log"))]
            raise FleetFailed("\n".join(path.read_text(errors="replace")[-2000:] for path in logs))
        time.sleep(_POLL_SECONDS)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _free_ports(n: int) -> list[int]:
    probes = [socket.socket() for _ in range(n)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports
