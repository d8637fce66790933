"""What does hashing on the tenant save against round robin, with two engines behind one front?

Two engines and Envoy run as the chart renders them; two more Envoys have the same configuration but
for `lb_policy`, and but for the bound on an engine's load. The same open-loop traffic (Zipf over
adapters, seeded) goes through each in turn, after a lead-in that is not counted. Loads are the
engines' own counters, times are the client's: TTFT and end to end from when a request was due,
streams of few tokens. Each mode is the first of a run in turn.

The bound (`front.envoy.hashing.balanceFactor`) sends a tenant to the other engine when its own has
more than its factor of what is in flight, and with few requests in flight that is often: hence the
reads from disk that hashing alone does not make. A p99 of a hundred requests is nearly their
slowest.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.chart_fleet import ChartFleet, running_chart
from bench.figure_table import Say, print_figures, progress_line
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
    zipf,
)
from bench.result import Figure, write_result

QUESTION = "What does hashing on the tenant save against round robin, two engines behind one front?"
ROUND_ROBIN = "round robin"
MODES = {
    "hashing": "front",
    "hashing without bound": "front-maglev",
    ROUND_ROBIN: "front-round-robin",
}
_LOADS = ("loads_cache", "loads_disk", "evictions_slot", "evictions_cache")
_TIMES = ("ttft_p50_ms", "ttft_p99_ms", "e2e_p50_ms", "e2e_p99_ms")
_REPORTED = {
    "loads_cache": ("loads into slots", ""),
    "loads_disk": ("reads from disk", ""),
    "ttft_p50_ms": ("TTFT p50", "ms"),
    "ttft_p99_ms": ("TTFT p99", "ms"),
    "e2e_p50_ms": ("end to end p50", "ms"),
    "e2e_p99_ms": ("end to end p99", "ms"),
}
Json = dict[str, Any]


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
    fleet: ChartFleet, tenants: Sequence[Tenant], options: argparse.Namespace, say: Say
) -> list[Json]:
    rows = []
    for number in range(options.runs):
        seeds = {"lead_in": 1000 + number, "plan": number}
        seconds = {"lead_in": options.lead_in, "plan": options.seconds}
        traffic = {
            part: plan_traffic(tenants, rate=options.rate, seconds=seconds[part], seed=seed)
            for part, seed in seeds.items()
        }
        # Each is the first in turn, so that a drift of the machine meets all.
        modes = list(MODES)
        for mode in modes[number % len(modes) :] + modes[: number % len(modes)]:
            say.now(f"run {number + 1} of {options.runs}, {mode}")
            rows.append({"run": number + 1, **_phase(fleet, mode, tenants, **traffic)})
            say.step("next")
    return rows


def figures_of(rows: Sequence[Json]) -> list[Figure]:
    """What each mode counted and took, and that divided by round robin's of the same run."""
    runs = sorted({row["run"] for row in rows})
    by_mode = {(row["run"], row["mode"]): row for row in rows}
    figures = []
    for measure, (name, unit) in _REPORTED.items():
        found = {mode: tuple(float(by_mode[run, mode][measure]) for run in runs) for mode in MODES}
        for mode, values in found.items():
            figures.append(Figure(mode, unit, values, "lower", name))
        for mode in (each for each in MODES if each != ROUND_ROBIN):
            pairs = zip(found[mode], found[ROUND_ROBIN], strict=True)
            ratios = tuple(ours / theirs if theirs else math.nan for ours, theirs in pairs)
            figures.append(Figure(f"{mode} / {ROUND_ROBIN}", "x", ratios, "lower", name))
    return figures


def _push(fleet: Fleet, options: argparse.Namespace, base: Path, folder: Path) -> list[Tenant]:
    made = make_random_adapters(options.adapters, base=base, folder=folder, rank=16)
    return push_all(fleet, made)


def _slots(text: str) -> tuple[int, int]:
    slots, _, places = text.partition("/")
    return int(slots), int(places or 4 * int(slots))


def main() -> None:
    """Print the table; write the result with `--write`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", choices=("tiny", "smol"), default="smol")
    parser.add_argument("--adapters", type=int, default=24, help="one of each tenant")
    parser.add_argument("--slots", type=_slots, default=(4, 16), help="SLOTS/PLACES IN MEMORY")
    parser.add_argument("--rate", type=float, default=2.0, help="requests per second")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured seconds of a phase")
    parser.add_argument("--lead-in", type=float, default=8.0, help="seconds before, not counted")
    parser.add_argument("--runs", type=int, default=5, help="phases of each mode")
    parser.add_argument("--quick", action="store_true", help="one run of 4 s on the tiny base")
    parser.add_argument("--write", action="store_true", help="write bench/results")
    options = parser.parse_args()
    if options.quick:
        options.base, options.adapters, options.runs = "tiny", 4, 1
        options.seconds, options.lead_in = 4.0, 1.0
    original = tiny_base() if options.base == "tiny" else smol_base()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        base = model_folder(original, folder / "model")
        values = _values(options, base)
        with (
            progress_line("starting a release", n_steps=options.runs * len(MODES)) as say,
            running_chart(folder, values=values, more=("ROUND_ROBIN", "MAGLEV")) as fleet,
        ):
            say.now("bringing adapters live")
            tenants = _push(fleet.through("front"), options, base, folder / "adapters")
            rows = _measure(fleet, tenants, options, say)
    figures = figures_of(rows)
    print_figures(QUESTION, figures)
    if options.write:
        shown = {
            key: value for key, value in vars(options).items() if key not in ("write", "quick")
        }
        values["model"] = {"source": "hostPath", "base": options.base}
        write_result(
            "tenant_hashing", question=QUESTION, parameters={**shown, "values": values},
            figures=figures,
            raw={
                "sample_fields": ["due_at_seconds", "tenant", "status", "ttft_ms", "e2e_ms"],
                "rows": rows,
            },
        )  # fmt: skip


if __name__ == "__main__":
    main()
