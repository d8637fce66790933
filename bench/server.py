"""A server process for a benchmark, from start to end; and vLLM alone, as one would start it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from serving.engine.profile import EngineProfile
from serving.engine.vllm_flags import MODULE
from serving.tuning.process_group import end_group, end_on_sigterm, group_members, resident_bytes
from serving.tuning.rig import OnStage

READY_SECONDS = 400.0
_STOP_SECONDS = 30.0
_POLL_SECONDS = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")
_USER_TICKS, _SYSTEM_TICKS = 11, 12
"""Places in /proc/PID/stat after the name in brackets (proc(5): utime, stime)."""


class ServerFailed(Exception):
    """It ended, or was not ready in time; the log's last lines are in the text."""


@dataclass(frozen=True, slots=True)
class Server:
    """A process that leads a group of its own, and answers at `url`."""

    url: str
    pid: int

    @property
    def resident_bytes(self) -> int:
        """Memory of the group; pages that its processes share count once (PSS)."""
        return resident_bytes(self.pid)

    @property
    def processor_seconds(self) -> float:
        """What the group has used of all processors since its start."""
        return processor_seconds(self.pid)


def processor_seconds(leader: int, *, proc: Path = Path("/proc")) -> float:
    """User and system time of all processes in the group that `leader` leads."""
    ticks = 0
    for pid in group_members(leader, proc=proc):
        try:
            fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue  # It ended meanwhile.
        ticks += int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return ticks / _TICKS


@contextmanager
def running_server(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    url: str,
    log: Path,
    ready: str | None = "/health",
    on_stage: OnStage = lambda _text, _seconds: None,
) -> Iterator[Server]:
    """Start it, wait until `url` + `ready` answers 200, and end all of it with the block.

    `ready` None: no waiting, so that several can start side by side; `wait_ready` waits for each.

    Raises:
        ServerFailed: it ended, or did not answer so within `READY_SECONDS`.
    """
    with end_on_sigterm(), log.open("wb") as file:
        process = subprocess.Popen(
            command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=file,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            server = Server(url, process.pid)
            if ready is not None:
                wait_ready(server, log, ready=ready, on_stage=on_stage)
            yield server
        finally:
            end_group(process, seconds=_STOP_SECONDS)


def wait_ready(server: Server, log: Path, *, ready: str, on_stage: OnStage) -> None:
    """Return when `ready` answers 200.

    Raises:
        ServerFailed: it ended, or did not answer so within `READY_SECONDS` from now.
    """
    started = time.monotonic()
    while not _answers(server.url + ready):
        seconds = time.monotonic() - started
        if _has_ended(server.pid) or seconds > READY_SECONDS:
            text = log.read_text(errors="replace")[-3000:]
            raise ServerFailed(f"{server.url} is not ready after {seconds:.0f} s:\n{text}")
        on_stage("server starting", seconds)
        time.sleep(_POLL_SECONDS)


def _has_ended(pid: int) -> bool:
    """Whether a child has; it stays a child for who waits for it later."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def bare_command(
    profile: EngineProfile, *, port: int, modules: Mapping[str, Path] | None = None
) -> list[str]:
    """vLLM alone with a profile's sizes; with `modules` (name to folder) it serves adapters too."""
    sizes = {
        "--dtype": profile.dtype,
        "--max-model-len": profile.max_model_len,
        "--max-num-batched-tokens": profile.max_num_batched_tokens,
        "--long-prefill-token-threshold": profile.prefill_threshold,
        "--max-num-seqs": profile.max_num_seqs,
    }
    flags = [
        *("--model", profile.model, "--served-model-name", "base"),
        *("--host", "127.0.0.1", "--port", str(port), "--generation-config", "vllm"),
        "--disable-fastapi-docs", *profile.extra_arguments,
    ]  # fmt: skip
    for flag, value in sizes.items():
        flags += [] if value is None else [flag, str(value)]
    if profile.enforce_eager:
        flags.append("--enforce-eager")
    if modules:
        flags += [
            "--enable-lora", "--max-loras", str(profile.gpu_slots),
            "--max-cpu-loras", str(profile.cpu_slots), "--max-lora-rank", str(profile.max_rank),
            "--lora-target-modules", *profile.target_modules,
            "--lora-modules", *(f"{name}={path}" for name, path in modules.items()),
        ]  # fmt: skip
    return [sys.executable, "-m", MODULE, *flags]


def bare_environment(profile: EngineProfile, *, has_our_products: bool = False) -> dict[str, str]:
    """vLLM's environment; `has_our_products`: with our worker hooks, and without our front door.

    vLLM 0.32 loads a general plugin unless VLLM_PLUGINS leaves it out, and an endpoint plugin only
    if it is named there (vllm/plugins/__init__.py).
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LORAPLANE_")}
    environment = {**kept, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_PLUGINS": ""}
    if has_our_products:
        del environment["VLLM_PLUGINS"]
    if profile.kv_cache_gib is not None:
        environment["VLLM_CPU_KVCACHE_SPACE"] = str(profile.kv_cache_gib)
    return environment


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def device_bytes() -> int:
    """Memory in use on the first GPU, whoever uses it; 0 where there is none."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return 0
    return int(told.stdout.split()[0]) * 1024**2


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
