"""A `loraplane up` of the zoo's own, for one base and one number type."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from bench.zoo.sources import RANKS

_READY_SECONDS = 400.0
_STOP_SECONDS = 120.0


class FleetFailed(Exception):
    """The fleet did not come up; its last lines are in the text."""


@contextmanager
def fleet(base: Path, dtype: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Start controller and engine in `folder`; gives (controller's address, admin token).

    Raises:
        FleetFailed: not ready in time.
    """
    folder.mkdir(parents=True)
    ports = _free_ports(2)
    url = f"http://127.0.0.1:{ports[0]}"
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            _command(base, dtype, folder, ports),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(),
            start_new_session=True,
        )
    try:
        _wait_ready(process, folder, (f"{url}/readyz", f"http://127.0.0.1:{ports[1]}/ready"))
        yield url, (folder / "admin-token").read_text().strip()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


def _command(base: Path, dtype: str, folder: Path, ports: list[int]) -> list[str]:
    profile = folder / "profile.yaml"
    profile.write_text(json.dumps(_profile(dtype)))
    return [
        sys.executable, "-m", "serving.cli", "up", "--model", str(base),
        "--data-dir", str(folder), "--profile", str(profile),
        "--controller-port", str(ports[0]), "--engine-port", str(ports[1]),
    ]  # fmt: skip


def _profile(dtype: str) -> dict[str, Any]:
    return {
        "dtype": dtype,
        "gpu_slots": 2,
        "cpu_slots": 8,
        "max_rank": max(RANKS),
        "max_model_len": 512,
        "max_num_batched_tokens": 256,
        "enforce_eager": True,
        "kv_cache_gib": 1,
    }


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("LORAPLANE_")}
    return {**kept, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "NO_PROXY": "127.0.0.1"}


def _wait_ready(process: subprocess.Popen[bytes], folder: Path, urls: tuple[str, ...]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while not all(_answers(url) for url in urls):
        if process.poll() is not None or time.monotonic() > deadline:
            logs = [folder / "up.log", *sorted((folder / "logs").glob("*.log"))]
            tails = (path.read_text(errors="replace")[-2000:] for path in logs)
            raise FleetFailed("\n".join(tails))
        time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
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
