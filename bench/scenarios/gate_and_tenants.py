"""What do tenants feel of a gate run? Inter-token gaps of four streams, with and without one.

One engine. Rounds alternate between three kinds: no gate; the gate as it is (its requests in a
scheduling class behind tenants', one at a time while tenants are busy); and a gate like any other
client (same class, four requests in flight). The gate's traffic is the real plan: every prompt of a
suite, repeats, company of other adapters.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import smol_base
from bench.fleet import Fleet, running_fleet
from serving.contract import gate_key
from serving.controller.gate_client import GateClient, Prompt, plan_traffic
from serving.controller.gate_pace import Pace

_KINDS = ("no gate", "gate that yields", "gate like a tenant")
_STREAMS, _GATE_REQUESTS = 4, 4
_PROFILE = {
    "dtype": "float32",
    "gpu_slots": 4,
    "cpu_slots": 16,
    "max_rank": 16,
    "max_model_len": 1024,
    "max_num_batched_tokens": 256,
    "enforce_eager": True,
    "kv_cache_gib": 1,
}
_SUITE = "\n".join(
    json.dumps({"id": f"c{n}", "prompt": f"Guest {n} would like to", "max_tokens": 4})
    for n in range(8)
)


class _DeafPace(Pace):
    """A client that does not care who else is there."""

    def observe(self, header: str | None) -> None:
        """Tenants' requests change nothing."""


class _Tenants:
    """Four tenants' streams, one after the other without a pause; remembers every token's time."""

    def __init__(self, fleet: Fleet, keys: dict[str, str]) -> None:
        self._fleet, self._keys = fleet, keys
        self.times: list[list[float]] = [[] for _ in range(_STREAMS)]

    async def run(self, number: int) -> None:
        names = sorted(self._keys)
        name = names[number % len(names)]
        headers = {"Authorization": f"Bearer {self._keys[name]}"}
        body = {
            "model": "support",
            "prompt": f"Write a long letter to guest {number} about the weather.",
            "max_tokens": 200,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
        }
        async with httpx.AsyncClient(headers=headers, timeout=120, trust_env=False) as client:
            url = f"{self._fleet.engine_url}/v1/completions"
            while True:
                self.times[number].append(float("nan"))
                async with client.stream("POST", url, json=body) as response:
                    response.raise_for_status()
                    async for line in response.aiter_lines():
                        if line.startswith("data: {"):
                            self.times[number].append(time.perf_counter())

    def gaps_ms(self, since: float) -> list[float]:
        return [
            1000 * (later - earlier)
            for times in self.times
            for earlier, later in itertools.pairwise(times)
            if earlier >= since and later >= since
        ]


class _Gate:
    """The gate's traffic on a candidate, again and again."""

    def __init__(self, fleet: Fleet, keys: dict[str, str]) -> None:
        self._fleet, self._keys = fleet, keys
        text = " ".join(f"fact {n} about the order of guest {n % 7}," for n in range(30))
        self._prompts = [
            Prompt(
                f"c{n}", tuple(200 + (n * 31 + i * 7) % 20_000 for i in range(len(text) // 6)), 24
            )
            for n in range(50)
        ]
        self.n_answers = 0

    async def run(self, kind: str) -> None:
        yields = kind == "gate that yields"
        secret = (self._fleet.folder / "cluster-secret").read_text().strip()
        name = sorted(self._keys)[0]
        # Like a tenant: a tenant's key has the tenants' class; it may ask its own version alone.
        key = gate_key(secret) if yields else self._keys[name]
        pace = (Pace if yields else _DeafPace)(_GATE_REQUESTS)
        model = f"{name}/support@1"
        planned = plan_traffic(self._prompts, model=model, repeats=3, neighbours=[model])
        async with GateClient(url=self._fleet.engine_url, key=key, pace=pace) as client:
            await client.answer_all(itertools.cycle(planned), on_answer=self._count)

    def _count(self) -> None:
        self.n_answers += 1


async def _round(kind: str, fleet: Fleet, keys: dict[str, str], seconds: float) -> dict[str, Any]:
    tenants, gate = _Tenants(fleet, keys), _Gate(fleet, keys)
    tasks = [asyncio.create_task(tenants.run(number)) for number in range(_STREAMS)]
    if kind != "no gate":
        tasks.append(asyncio.create_task(gate.run(kind)))
    await asyncio.sleep(3.0)
    since, answers_before = time.perf_counter(), gate.n_answers
    done, _ = await asyncio.wait(tasks, timeout=seconds)
    n_answers = gate.n_answers - answers_before
    gaps = tenants.gaps_ms(since)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
    p50, p99 = np.percentile(gaps, [50, 99])
    return {
        "kind": kind,
        "n_gaps": len(gaps),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "largest_ms": max(gaps),
        "gate_answers": n_answers,
    }


async def _measure(fleet: Fleet, keys: dict[str, str], options: Any) -> list[dict[str, Any]]:
    rows = []
    for _ in range(options.rounds):
        for kind in _KINDS:
            row = await _round(kind, fleet, keys, options.seconds)
            print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
            rows.append(row)
    return rows


def _prepare(fleet: Fleet, adapters: list[Path]) -> dict[str, str]:
    keys, versions = {}, []
    for number, adapter in enumerate(adapters):
        tenant = f"tenant{number}"
        keys[tenant] = fleet.make_tenant(tenant)
        fleet.call("PUT", f"/v1/tenants/{tenant}/suites/quick", content=_SUITE)
        versions.append(fleet.push(f"{tenant}/support", adapter, suite="quick", promote="auto"))
    for version in versions:
        shown = fleet.wait(version, seconds=600)
        if shown["state"] != "live":
            raise SystemExit(f"{version} is {shown['state']}: {fleet.report(version)['reasons']}")
    return keys


def main() -> None:
    """Print one line per round and the ratios; write every round with `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="rounds of each kind")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured seconds of a round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as text:
        folder, base = Path(text), smol_base()
        adapters = make_random_adapters(3, base=base, folder=folder / "adapters", rank=16)
        with running_fleet(base, folder / "fleet", profile=_PROFILE) as fleet:
            keys = _prepare(fleet, adapters)
            rows = asyncio.run(_measure(fleet, keys, options))
    medians = {
        kind: statistics.median(row["p99_ms"] for row in rows if row["kind"] == kind)
        for kind in _KINDS
    }
    alone = medians[_KINDS[0]]
    for kind in _KINDS:
        p99s = [round(row["p99_ms"]) for row in rows if row["kind"] == kind]
        print(f"{kind:>20}: p99 gap {medians[kind]:.0f} ms, x{medians[kind] / alone:.2f}; {p99s}")
    if options.out:
        options.out.write_text(json.dumps({"profile": _PROFILE, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
