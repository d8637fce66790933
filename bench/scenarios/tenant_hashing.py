"""What does hashing on the tenant save against round robin, with two engines behind one front?

Two engines and Envoy run as the chart renders them; two more Envoys have the same configuration but
for `lb_policy`, and but for the bound on an engine's load. The same open-loop traffic (Zipf over
adapters, seeded) goes through each in turn, after a lead-in that is not counted. Loads are the
engines' own counters, times are the client's: TTFT and end to end from when a request was due,
streams of few tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.chart_fleet import ChartFleet, running_chart
from bench.environment import describe_environment
from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import smol_base, tiny_base
from bench.fleet import Fleet
from bench.kubelet.chart import model_folder
from bench.many_adapters import (
    Answered,
    Due,
    Tenant,
    ask_in_turn,
    push_all,
    send_open_loop,
    show,
    zipf,
)

ROUND_ROBIN = "round robin"
MODES = {
    "hashing": "front",
    "hashing without bound": "front-maglev",
    ROUND_ROBIN: "front-round-robin",
}
_LOADS = ("loads_cache", "loads_disk", "evictions_slot", "evictions_cache")
_TIMES = ("ttft_p50_ms", "ttft_p99_ms", "e2e_p50_ms", "e2e_p99_ms")


def _values(options: argparse.Namespace, base: Path) -> dict[str, Any]:
    slots, places = options.slots
    profile = {"gpu_slots": slots, "cpu_slots": places, "max_model_len": 512}
    if places < 4 * slots:
        profile["waived"] = ["cpu_slots"]
    return {
        "model": {"source": "hostPath", "hostPath": {"path": str(base)}},
        "engine": {
            "replicas": 2,
            "profile": profile,
            # Probes load adapters too, and only tenants' loads are counted here.
            "settings": {"probe_interval_seconds": 0},
            # Two engines share two cores: one thread each, on whichever core is free.
            "extraEnv": [
                {"name": "VLLM_CPU_OMP_THREADS_BIND", "value": "nobind"},
                {"name": "OMP_NUM_THREADS", "value": "1"},
            ],
        },
        "controller": {"settings": {"gate_repeats": 2, "residency_mode": "off"}},
        "front": {"mode": "envoy", "replicas": 1},
        # A given one, so that each run spreads the tenants alike.
        "secrets": {"clusterSecret": "the-cluster-secret-of-the-tenant-hashing-benchmark"},
    }


def plan_traffic(tenants: Sequence[Tenant], *, rate: float, seconds: float, seed: int) -> list[Due]:
    """Poisson arrivals; the adapter of rank r is asked for with weight 1/r."""
    draw, times, at = random.Random(seed), [], 0.0
    while (at := at + draw.expovariate(rate)) < seconds:
        times.append(at)
    asked = zipf(tenants, len(times), seed=seed)
    return [Due(at, tenant) for at, tenant in zip(times, asked, strict=True)]


def _phase(
    fleet: ChartFleet,
    mode: str,
    tenants: Sequence[Tenant],
    lead_in: Sequence[Due],
    plan: Sequence[Due],
) -> dict[str, Any]:
    seen = fleet.through(MODES[mode])
    # Everybody once, or a seldom tenant's first request would find what the mode before has left.
    asyncio.run(ask_in_turn(seen, tenants))
    asyncio.run(send_open_loop(seen, lead_in))
    before = fleet.counted()
    answered = asyncio.run(send_open_loop(seen, plan))
    time.sleep(2)  # The worker publishes its counts once a second.
    after = fleet.counted()
    engines = {
        name: {field: counts[field] - before[name][field] for field in counts}
        for name, counts in after.items()
    }
    return {
        "mode": mode,
        "load_average_1m": os.getloadavg()[0],
        "n_requests": len(answered),
        "n_failed": sum(answer.status != 200 for answer in answered),
        **{field: sum(counts[field] for counts in engines.values()) for field in _LOADS},
        "engines": engines,
        **_times(answered),
        "samples": [_sample(answer) for answer in answered],
    }


def _times(answered: Sequence[Answered]) -> dict[str, float]:
    good = [answer for answer in answered if answer.status == 200]
    found: dict[str, float] = {}
    for name, values in (
        ("ttft", [answer.ttft_seconds for answer in good]),
        ("e2e", [answer.e2e_seconds for answer in good]),
    ):
        p50, p99 = np.percentile(values, [50, 99])
        found |= {f"{name}_p50_ms": 1000 * float(p50), f"{name}_p99_ms": 1000 * float(p99)}
    return found


def _sample(answer: Answered) -> list[Any]:
    times = [round(1000 * value, 1) for value in (answer.ttft_seconds, answer.e2e_seconds)]
    return [round(answer.due_at, 3), answer.tenant, answer.status, *times]


def _measure(
    fleet: ChartFleet, tenants: Sequence[Tenant], options: argparse.Namespace
) -> list[dict[str, Any]]:
    rows = []
    for number in range(options.rounds):
        seeds = {"lead_in": 1000 + number, "plan": number}
        seconds = {"lead_in": options.lead_in, "plan": options.seconds}
        traffic = {
            part: plan_traffic(tenants, rate=options.rate, seconds=seconds[part], seed=seed)
            for part, seed in seeds.items()
        }
        # Each is the first in turn, so that a drift of the machine meets all.
        modes = list(MODES)
        for mode in modes[number % len(modes) :] + modes[: number % len(modes)]:
            show(f"round {number + 1} of {options.rounds}, {mode}")
            row = {"round": number + 1, **_phase(fleet, mode, tenants, **traffic)}
            rows.append(row)
            print(json.dumps({key: row[key] for key in row if key != "samples"}), flush=True)
    return rows


def compare(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each mode divided by round robin: of the medians over rounds, and of each round's pair."""
    found = []
    for mode in (each for each in MODES if each != ROUND_ROBIN):
        for measure in (*_LOADS, *_TIMES):
            ours, theirs = (
                [row[measure] for row in sorted(rows, key=_round) if row["mode"] == each]
                for each in (mode, ROUND_ROBIN)
            )
            pairs = [_ratio(a, b) for a, b in zip(ours, theirs, strict=True)]
            ratio = _ratio(statistics.median(ours), statistics.median(theirs))
            found.append(
                {"mode": mode, "measure": measure, "ratio": ratio, "of_rounds": pairs,
                 "ours": ours, "round_robin": theirs}
            )  # fmt: skip
    return found


def _round(row: dict[str, Any]) -> int:
    return int(row["round"])


def _ratio(value: float, of: float) -> float | None:
    return value / of if of else None


def _push(fleet: Fleet, options: argparse.Namespace, base: Path, folder: Path) -> list[Tenant]:
    made = make_random_adapters(options.adapters, base=base, folder=folder, rank=16)
    return push_all(fleet, made)


def _slots(text: str) -> tuple[int, int]:
    slots, _, places = text.partition("/")
    return int(slots), int(places or 4 * int(slots))


def main() -> None:
    """Print one JSON line per phase and the ratios; all of it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", choices=("tiny", "smol"), default="smol")
    parser.add_argument("--adapters", type=int, default=24, help="one of each tenant")
    parser.add_argument("--slots", type=_slots, default=(4, 16), help="SLOTS/PLACES IN MEMORY")
    parser.add_argument("--rate", type=float, default=2.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured seconds of a phase")
    parser.add_argument("--lead-in", type=float, default=20.0, help="seconds before, not counted")
    parser.add_argument("--rounds", type=int, default=4, help="phases of each mode")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    original = tiny_base() if options.base == "tiny" else smol_base()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        base = model_folder(original, folder / "model")
        values = _values(options, base)
        with running_chart(folder, values=values, more=("ROUND_ROBIN", "MAGLEV")) as fleet:
            tenants = _push(fleet.through("front"), options, base, folder / "adapters")
            rows = _measure(fleet, tenants, options)
    ratios = compare(rows)
    for row in ratios:
        shown = "none" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['mode']:>22} / round robin {row['measure']:>16} {shown}  {row}")
    if options.out:
        document = {
            "environment": describe_environment(),
            "values": {**values, "model": {"source": "hostPath", "base": options.base}},
            "options": {key: str(value) for key, value in vars(options).items()},
            "sample_fields": ["due_at_seconds", "tenant", "status", "ttft_ms", "e2e_ms"],
            "ratios": ratios,
            "rows": rows,
        }
        options.out.write_text(json.dumps(document) + "\n")


if __name__ == "__main__":
    main()
