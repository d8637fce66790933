"""Closed-loop load on one URL: N connections, each asks again as soon as it was answered.

With `wrk` where it is installed (Debian has it), else with a client of our own, which costs more
per request and tops out sooner; a result says which one was used.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

_GRACE_SECONDS = 30.0
_DONE = """
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"n": %d, "us": %d, "p50": %.1f, "p99": %.1f, "failed": %d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class LoadFailed(Exception):
    """The load could not be offered, or not every answer was a good one."""


class NothingAnswered(LoadFailed):
    """No answer came within the stretch, and no bad one either: the server had no processor."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked again and again."""

    url: str
    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one stretch of load found."""

    n_requests: int
    seconds: float
    p50_us: float
    p99_us: float

    @property
    def requests_per_second(self) -> float:
        """Answered requests over the stretch."""
        return self.n_requests / self.seconds


def client_name() -> str:
    """`wrk`, or `own`."""
    return "wrk" if shutil.which("wrk") else "own"


def offer(request: Request, *, connections: int, seconds: float) -> Loaded:
    """Keep so many connections busy for `seconds`.

    Raises:
        LoadFailed: no answer, or some were not 2xx.
    """
    if client_name() == "wrk":
        return _with_wrk(request, connections, seconds)
    return asyncio.run(_with_own(request, connections, seconds))


def wrk_script(request: Request) -> str:
    """The Lua that has wrk send this request and tell what it found as JSON."""
    lines = [
        'wrk.method = "POST"',
        f"wrk.body = {_quoted(request.body.decode())}",
        'wrk.headers["Content-Type"] = "application/json"',
        f'wrk.headers["Authorization"] = {_quoted(f"Bearer {request.key}")}',
    ]
    return "\n".join(lines) + "\n" + _DONE


def parse_wrk(output: str, url: str) -> Loaded:
    """What `wrk_script` printed last.

    Raises:
        NothingAnswered: there was no answer.
        LoadFailed: nothing was printed, or answers were bad.
    """
    told = [line for line in output.splitlines() if line.startswith('{"n"')]
    if not told:
        raise LoadFailed(f"wrk told nothing about {url}:\n{output[-1000:]}")
    found = json.loads(told[-1])
    if not found["failed"] and not found["n"]:
        raise NothingAnswered(f"{url}: no answer in {found['us'] / 1e6:.1f} s")
    if found["failed"]:
        raise LoadFailed(f"{url}: {found['failed']} of {found['n']} answers were bad")
    return Loaded(found["n"], found["us"] / 1e6, found["p50"], found["p99"])


def _with_wrk(request: Request, connections: int, seconds: float) -> Loaded:
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(wrk_script(request))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s"]
        command += ["--timeout", f"{_GRACE_SECONDS:.0f}s", "-s", script.name, request.url]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds + _GRACE_SECONDS
        )
    return parse_wrk(done.stdout + done.stderr, request.url)


def _quoted(text: str) -> str:
    # JSON's escapes of what can be in a body or a key are Lua's too.
    return json.dumps(text, ensure_ascii=False)


async def _with_own(request: Request, connections: int, seconds: float) -> Loaded:
    times: list[float] = []
    started = time.perf_counter()
    try:
        async with asyncio.timeout(seconds + _GRACE_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(_ask(request, started + seconds, times))
    except* (OSError, asyncio.IncompleteReadError, TimeoutError) as exc:
        raise LoadFailed(f"{request.url}: {exc.exceptions[0]}") from exc
    taken = 1e6 * np.array(times)
    elapsed = time.perf_counter() - started
    return Loaded(len(times), elapsed, *(float(np.percentile(taken, q)) for q in (50, 99)))


async def _ask(request: Request, until: float, times: list[float]) -> None:
    parts = urlsplit(request.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {request.key}\r\nContent-Length: {len(request.body)}\r\n\r\n"
    )
    data = head.encode() + request.body
    try:
        while (asked_at := time.perf_counter()) < until:
            writer.write(data)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(body_length(answer))
            times.append(time.perf_counter() - asked_at)
    finally:
        writer.close()


def body_length(head: bytes) -> int:
    """Bytes of the body after this head of a good answer.

    Raises:
        LoadFailed: the status is no 2xx, or the length is not told.
    """
    status, *lines = head.decode("latin-1").split("\r\n")
    if status.split(" ")[1:2] != ["200"]:
        raise LoadFailed(status)
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "content-length":
            return int(value)
    raise LoadFailed("an answer without content-length: install wrk to measure this server")
