"""Many engines' agents in one process, without engines: they pull, follow and report over HTTP.

Each has two connections of its own, as `serving.engine.agent` has: one waits for news, one reports,
at every news and at least every two seconds. What an engine does with a version (fetching, loading,
probing) takes no time here: what is followed is proven at once. Agents that are given the same
bytes share the reading of them, so that a hundred fit beside the controller; real ones run on a
hundred machines. Commands come on stdin, answers go to stdout, one JSON object a line.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from serving.abridged_report import abridge
from serving.contract import (
    INTER_TOKEN_BOUNDS_SECONDS,
    TTFT_BOUNDS_SECONDS,
    AdapterCounts,
    EngineReport,
    FleetSnapshot,
    decode_snapshot,
    encode,
    engine_token,
)
from serving.snapshot_delta import (
    MEDIA_TYPE,
    TAG_HEADER,
    HeldSnapshot,
    apply,
    decode_delta,
)

REPORT_SECONDS, POLL_SECONDS = 2.0, 20.0
"""The product's defaults."""
_LEAST_REPORT_PAUSE_SECONDS = 0.1
_N_COUNTED = 32
"""Adapters that an engine has counts of: as if each served its own few."""
BUILD = "vllm 0.32.0 / loraplane bench"


class Connection:
    """One HTTP/1.1 connection that is kept open; as little as a client can be."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port = host, port
        self._common = f"Host: {host}\r\nAuthorization: Bearer {token}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.n_bytes = 0

    async def ask(
        self, method: str, path: str, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers by lower-case name, body)."""
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=2**22)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\n{self._common}Content-Length: {len(body)}\r\n\r\n"
        try:
            writer.write(head.encode() + body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
            length = int(headers.get("content-length", 0))
            answer = await reader.readexactly(length) if length else b""
        except (OSError, asyncio.IncompleteReadError):
            self._streams = None
            raise
        self.n_bytes += len(answer)
        return int(lines[0].split(" ")[1]), headers, answer


@dataclass(frozen=True, slots=True)
class Followed:
    """One revision as every agent sees it: read once, shared by all that were given its bytes."""

    held: HeldSnapshot
    numbers: dict[tuple[str, str], int]
    whole: EngineReport
    short: EngineReport
    """What everybody reports of it; the same as `whole` for a controller that knows no tags."""

    @classmethod
    def of(cls, held: HeldSnapshot) -> Followed:
        """With what is looked up in it and said of it."""
        aliases = held.snapshot.aliases
        numbers = {(alias.tenant, alias.adapter): alias.number for alias in aliases}
        whole = _report_of(held)
        return cls(held, numbers, whole, abridge(whole, held) if held.tag else whole)

    @property
    def snapshot(self) -> FleetSnapshot:
        """What it says."""
        return self.held.snapshot


class Agents:
    """All agents of this process."""

    def __init__(self, host: str, port: int, secret: str, n: int, first: int) -> None:
        token = engine_token(secret)
        self.names = [f"engine-{first + index:03d}" for index in range(n)]
        self.pulls = {name: Connection(host, port, token) for name in self.names}
        self.reports = {name: Connection(host, port, token) for name in self.names}
        self.followed: dict[str, Followed] = {}
        self.wakes = {name: asyncio.Event() for name in self.names}
        self.n_reports = self.n_failures = 0
        self.sizes: list[int] = []
        self.watched: tuple[str, str, int] | None = None
        self.reached: dict[str, float] = {}
        self._shared: dict[tuple[str, str], Followed] = {}
        self._started_at = time.time()

    async def pull_forever(self, name: str) -> None:
        """Follow each revision as soon as it is given out."""
        wait = 0.0
        while True:
            known = self.followed.get(name)
            after = -1 if known is None else known.snapshot.revision
            path = f"/internal/v1/snapshot?after={after}&wait={wait}&engine={name}"
            if known is not None and known.held.tag:
                path += f"&base={known.held.tag}"
            try:
                status, headers, body = await self.pulls[name].ask("GET", path)
            except (OSError, asyncio.IncompleteReadError):
                status = 0
            if status == 200:
                self._follow(name, known, headers, body)
            elif status != 304:
                self.n_failures += 1
                await asyncio.sleep(0.2)
            wait = POLL_SECONDS

    def _follow(
        self, name: str, before: Followed | None, headers: dict[str, str], body: bytes
    ) -> None:
        is_delta = headers["content-type"] == MEDIA_TYPE
        base = before.held.tag if is_delta and before is not None else ""
        key = (headers["etag"], base)
        followed = self._shared.get(key)
        if followed is None:
            followed = Followed.of(_read(before, headers, body))
            self._shared = dict([*list(self._shared.items())[-4:], (key, followed)])
            self.sizes.append(len(body))
        self.followed[name] = followed
        self.wakes[name].set()
        self._note(name, followed)

    def _note(self, name: str, followed: Followed) -> None:
        if self.watched is None or name in self.reached:
            return
        tenant, adapter, number = self.watched
        if followed.numbers.get((tenant, adapter)) != number:
            return
        self.reached[name] = time.monotonic()
        if len(self.reached) == len(self.names):
            self.watched = None
            tell(event="followed", at=sorted(self.reached.values()))

    async def report_forever(self, name: str) -> None:
        """As `Agent` does: after every news, and every two seconds."""
        while True:
            self.wakes[name].clear()
            followed = self.followed.get(name)
            if followed is not None:
                await self._report(name, followed)
            await asyncio.sleep(_LEAST_REPORT_PAUSE_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await self.wakes[name].wait()

    async def _report(self, name: str, followed: Followed) -> None:
        # As `HttpLink` does: short where the controller knows what it refers to, or else whole.
        status = await self._send(name, self._observed(name, followed, followed.short))
        if status == 409:
            status = await self._send(name, self._observed(name, followed, followed.whole))
        if status == 204:
            self.n_reports += 1
        else:
            self.n_failures += 1

    async def _send(self, name: str, report: EngineReport) -> int:
        path = f"/internal/v1/engines/{name}/report"
        try:
            return (await self.reports[name].ask("POST", path, encode(report)))[0]
        except (OSError, asyncio.IncompleteReadError):
            return 0

    def _observed(self, name: str, followed: Followed, said: EngineReport) -> EngineReport:
        own = self.names.index(name) * _N_COUNTED
        entries = followed.snapshot.versions  # None yet in what a new controller first gives out.
        n_counted = min(_N_COUNTED, len(entries))
        counted = [entries[(own + n) % len(entries)].name for n in range(n_counted)]
        return msgspec.structs.replace(
            said,
            engine_id=name,
            started_at=self._started_at,
            counts=[_count(item) for item in counted],
            active=counted,
            cached=counted,
        )

    def watch(self, tenant: str, adapter: str, number: int) -> None:
        """Tell when the last agent follows an alias that points there."""
        self.reached, self.watched = {}, (tenant, adapter, number)
        for name, followed in self.followed.items():
            self._note(name, followed)

    def state(self) -> dict[str, Any]:
        """What the parent process asks for."""
        revisions = [item.snapshot.revision for item in self.followed.values()]
        n_versions = [len(item.snapshot.versions) for item in self.followed.values()]
        return {
            "n_following": len(revisions),
            "n_versions": min(n_versions, default=0),
            "revision": min(revisions, default=-1),
            "n_reports": self.n_reports,
            "n_failures": self.n_failures,
            "pulled_bytes": sum(item.n_bytes for item in self.pulls.values()),
            "sizes": self.sizes[-50:],
        }


def _read(before: Followed | None, headers: dict[str, str], body: bytes) -> HeldSnapshot:
    if headers["content-type"] == MEDIA_TYPE:
        assert before is not None
        return apply(before.held, decode_delta(body))
    held, tag = HeldSnapshot.of(decode_snapshot(body)), headers.get(TAG_HEADER, "")
    assert tag in ("", held.tag), "the tag that was sent is not that of the snapshot"
    return replace(held, tag=tag)


def _report_of(held: HeldSnapshot) -> EngineReport:
    return EngineReport(
        engine_id="",
        url="http://127.0.0.1:9",
        build=BUILD,
        dtype="bfloat16",
        revision=held.snapshot.revision,
        is_ready=True,
        started_at=0.0,
        gpu_slots=32,
        cpu_slots=256,
        max_rank=16,
        max_model_len=8192,
        versions=held.proven_list,
    )


def _count(name: str) -> AdapterCounts:
    return AdapterCounts(
        name,
        loads_disk=1,
        requests=100,
        prompt_tokens=5000,
        completion_tokens=2000,
        ttft=[9] * len(TTFT_BOUNDS_SECONDS) + [0],
        inter_token=[9] * len(INTER_TOKEN_BOUNDS_SECONDS) + [0],
    )


def tell(**fields: Any) -> None:
    """One line to the parent."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def _listen(agents: Agents) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while line := await reader.readline():
        match json.loads(line):
            case {"do": "watch", "tenant": tenant, "adapter": adapter, "number": number}:
                agents.watch(tenant, adapter, number)
                tell(event="watching")
            case {"do": "state"}:
                tell(event="state", **agents.state())
            case other:
                raise SystemExit(f"unknown command {other}")


async def _run(options: argparse.Namespace) -> None:
    agents = Agents(options.host, options.port, options.secret, options.n, options.first)
    loops = [
        asyncio.create_task(loop(name))
        for name in agents.names
        for loop in (agents.pull_forever, agents.report_forever)
    ]
    listening = asyncio.create_task(_listen(agents))
    # An agent that fails ends all: the parent would wait for it to follow.
    done, others = await asyncio.wait([listening, *loops], return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for task in done:
        task.result()


def main() -> None:
    """Run until stdin is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--secret", required=True)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    import uvloop

    # A full collection would hold up all agents at once; a fleet has none of a hundred machines.
    gc.disable()
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
