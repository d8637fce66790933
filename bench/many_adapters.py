"""Many tenants with one adapter each on a real fleet, and the traffic that benchmarks send them."""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.fleet import Fleet, FleetFailed

QUICK_GATE = {"LORAPLANE_GATE_REPEATS": "2", "LORAPLANE_PROBE_INTERVAL_SECONDS": "0"}
"""Environment of a fleet whose gate is not what is measured, and whose probes touch nothing."""
CROWDED_PROFILE = {
    "gpu_slots": 8,
    "cpu_slots": 24,
    # Fewer than the rule of four places a slot: forty adapters shall evict on both levels.
    "waived": ["cpu_slots"],
    "dtype": "float32",
    "max_rank": 16,
    "max_model_len": 512,
    "max_num_batched_tokens": 256,
    "enforce_eager": True,
    "kv_cache_gib": 1,
}
"""An engine that is too small for what it is asked for."""
_SUITE = "\n".join(
    json.dumps({"id": f"c{n}", "prompt": f"Guest {n} would like to", "max_tokens": 2})
    for n in range(8)
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant with one live adapter."""

    name: str
    key: str
    adapter: str = "support"


@dataclass(frozen=True, slots=True)
class Answered:
    """One request's fate. Seconds count from when it was due, so a late start is not forgiven."""

    tenant: str
    kind: str
    due_at: float
    ttft_seconds: float
    status: int
    e2e_seconds: float


@dataclass(frozen=True, slots=True)
class Due:
    """A request of an open-loop plan: `at` seconds after its start."""

    at: float
    tenant: Tenant
    kind: str = "traffic"


def push_all(fleet: Fleet, adapters: Sequence[Path]) -> list[Tenant]:
    """Make a tenant for each adapter and bring all of them live through the gate.

    Raises:
        FleetFailed: one of them did not go live.
    """
    tenants, versions = [], []
    for number, adapter in enumerate(adapters):
        name = f"tenant{number:02d}"
        tenants.append(Tenant(name, fleet.make_tenant(name)))
        fleet.call("PUT", f"/v1/tenants/{name}/suites/quick", content=_SUITE)
        versions.append(fleet.push(f"{name}/support", adapter, suite="quick", promote="auto"))
    for count, version in enumerate(versions, 1):
        shown = fleet.wait(version, seconds=900)
        if shown["state"] != "live":
            reasons = fleet.report(version)["reasons"]
            raise FleetFailed(f"{version} is {shown['state']}: {reasons}")
        show(f"{count} of {len(versions)} adapters live")
    return tenants


def zipf(tenants: Sequence[Tenant], n: int, *, seed: int, exponent: float = 1.0) -> list[Tenant]:
    """`n` draws; the tenant of rank r has weight r^-exponent."""
    weights = [1 / rank**exponent for rank in range(1, len(tenants) + 1)]
    return random.Random(seed).choices(list(tenants), weights, k=n)


async def ask_in_turn(
    fleet: Fleet, asked: Sequence[Tenant], *, in_flight: int = 1, max_tokens: int = 2
) -> None:
    """Send these in this order, at most `in_flight` at once.

    Raises:
        FleetFailed: one was not answered with 200.
    """
    queue = iter(enumerate(asked, 1))

    async def work(client: httpx.AsyncClient) -> None:
        for number, tenant in queue:
            response = await client.post(
                "/v1/completions",
                json={
                    "model": tenant.adapter,
                    "prompt": f"Question {number % 7}:",
                    "max_tokens": max_tokens,
                    "temperature": 0,
                    "ignore_eos": True,
                },
                headers={"Authorization": f"Bearer {tenant.key}"},
            )
            if response.status_code != httpx.codes.OK:
                raise FleetFailed(f"{tenant.name}: {response.status_code} {response.text[:300]}")
            if number % 50 == 0:
                show(f"{number} of {len(asked)} requests")

    async with _client(fleet) as client:
        await asyncio.gather(*(work(client) for _ in range(in_flight)))


async def send_open_loop(
    fleet: Fleet, plan: Iterable[Due], *, max_tokens: int = 4
) -> list[Answered]:
    """Send each request when it is due, whether or not earlier ones have been answered."""
    started = time.perf_counter()
    tasks = []
    async with _client(fleet) as client:
        for due in sorted(plan, key=lambda due: due.at):
            await asyncio.sleep(max(0.0, due.at - (time.perf_counter() - started)))
            tasks.append(asyncio.create_task(_send(client, due, started, max_tokens)))
        return list(await asyncio.gather(*tasks))


async def _send(client: httpx.AsyncClient, due: Due, started: float, max_tokens: int) -> Answered:
    first, status = math.nan, 0
    body: dict[str, Any] = {
        "model": due.tenant.adapter,
        "prompt": f"Dear {due.tenant.name}, the question is:",
        "max_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"Authorization": f"Bearer {due.tenant.key}"}
    async with client.stream("POST", "/v1/completions", json=body, headers=headers) as response:
        status = response.status_code
        async for line in response.aiter_lines():
            if line.startswith("data: {") and math.isnan(first):
                first = time.perf_counter() - started - due.at
    ended = time.perf_counter() - started - due.at
    return Answered(due.tenant.name, due.kind, due.at, first, status, ended)


def counted(fleet: Fleet) -> dict[str, int]:
    """The engine's own counts, summed over adapters, as its worker published them."""
    (path,) = fleet.folder.rglob("worker-facts.json")
    adapters = json.loads(path.read_text())["adapters"].values()
    names = ("loads_disk", "loads_cache", "evictions_slot", "evictions_cache")
    return {name: sum(int(counts.get(name, 0)) for counts in adapters) for name in names}


def show(text: str) -> None:
    """Progress, on one line where there is a terminal."""
    end = "\r" if sys.stderr.isatty() else "\n"
    print(f"{text:<70}", end=end, file=sys.stderr, flush=True)


def _client(fleet: Fleet) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=256)
    return httpx.AsyncClient(base_url=fleet.engine_url, timeout=300, trust_env=False, limits=limits)
