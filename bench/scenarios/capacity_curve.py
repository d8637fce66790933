"""Does the miss-ratio curve say what the engine counts, and is the recommended size as promised?

A real engine with 40 adapters, 8 slots and 24 places in CPU memory takes a Zipf trace of 2,000
requests one after the other, then another one with four in flight. The loads that the controller's
curve predicts for the running size are held against those that the engine's caches counted. Then
the fleet is started again with the slots that `/v1/capacity/plan` recommends, and a new trace of
the same kind shows whether the miss ratio is the promised one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.environment import describe_environment
from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import smol_base, tiny_base
from bench.fleet import Fleet, FleetFailed, running_fleet
from bench.many_adapters import (
    CROWDED_PROFILE,
    QUICK_GATE,
    Tenant,
    ask_in_turn,
    counted,
    push_all,
    show,
    zipf,
)

_ENVIRONMENT = {
    **QUICK_GATE,
    # The curve is that of an LRU; soft pins exist to beat it.
    "LORAPLANE_RESIDENCY_MODE": "off",
    "LORAPLANE_CAPACITY_POLL_SECONDS": "1",
}
_CATCH_UP_SECONDS = 60.0


def _predicted(fleet: Fleet, slots: Sequence[int]) -> dict[str, float]:
    """Requests, and misses at these sizes, in the controller's curve of the only engine."""
    (engine,) = fleet.call("GET", "/v1/capacity?window=24h")["engines"]
    curve = engine["curve"]
    if curve is None:
        return {"requests": 0, **{str(size): 0.0 for size in slots}}
    ratio = {point["slots"]: point["miss_ratio"] for point in curve["points"]}
    n = curve["n_requests"]
    largest = max(ratio)
    return {
        "requests": n,
        **{str(size): (ratio[min(size, largest)] or 0.0) * n for size in slots},
    }


def _wait_for_curve(fleet: Fleet, slots: Sequence[int], n_requests: int) -> dict[str, float]:
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    while True:
        found = _predicted(fleet, slots)
        if found["requests"] >= n_requests:
            return found
        if time.monotonic() > deadline:
            raise FleetFailed(f"the curve has {found['requests']} of {n_requests} requests")
        time.sleep(0.5)


def _settled(fleet: Fleet, slots: Sequence[int]) -> dict[str, float]:
    """The curve once it has stopped growing: everything that was asked so far is in it."""
    found = _predicted(fleet, slots)
    while True:
        time.sleep(3)
        later = _predicted(fleet, slots)
        if later == found:
            return found
        found = later


def _run(
    fleet: Fleet, asked: Sequence[Tenant], *, in_flight: int, sizes: dict[str, int]
) -> dict[str, Any]:
    slots = sorted(sizes.values())
    predicted_before, counted_before = _settled(fleet, slots), counted(fleet)
    started = time.perf_counter()
    asyncio.run(ask_in_turn(fleet, asked, in_flight=in_flight))
    seconds = time.perf_counter() - started
    wanted = int(predicted_before["requests"]) + len(asked)
    predicted_after, counted_after = _wait_for_curve(fleet, slots, wanted), counted(fleet)
    row: dict[str, Any] = {
        "in_flight": in_flight,
        "n_requests": len(asked),
        "seen_by_curve": predicted_after["requests"] - predicted_before["requests"],
        "seconds": seconds,
        **sizes,
    }
    for level, field in (("gpu_slots", "loads_cache"), ("cpu_slots", "loads_disk")):
        size = str(sizes[level])
        row[f"{field}_counted"] = counted_after[field] - counted_before[field]
        row[f"{field}_predicted"] = predicted_after[size] - predicted_before[size]
        n_counted = row[f"{field}_counted"]
        # Of nothing there is no share.
        row[f"{field}_error"] = row[f"{field}_predicted"] / n_counted - 1 if n_counted else None
    row["miss_ratio_counted"] = row["loads_cache_counted"] / len(asked)
    print(json.dumps(row), flush=True)
    return row


def _measure(base: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    adapters = make_random_adapters(
        options.adapters, base=base, folder=folder / "adapters", rank=16, strength=0.3
    )
    today = {"gpu_slots": CROWDED_PROFILE["gpu_slots"], "cpu_slots": CROWDED_PROFILE["cpu_slots"]}
    rows = []
    with running_fleet(
        base, folder / "fleet", profile=CROWDED_PROFILE, environment=_ENVIRONMENT
    ) as fleet:
        tenants = push_all(fleet, adapters)
        asyncio.run(ask_in_turn(fleet, tenants))
        for seed, in_flight in ((1, 1), (2, 4)):
            asked = zipf(tenants, options.requests, seed=seed)
            rows.append(_run(fleet, asked, in_flight=in_flight, sizes=today))
        plan = fleet.call("GET", f"/v1/capacity/plan?target_miss_ratio={options.target}&window=24h")
    print(json.dumps(plan), flush=True)
    if plan["recommended"] is None:
        raise FleetFailed(f"no recommendation: {plan['reasons']}")
    sizes = {level: plan["recommended"][level] for level in ("gpu_slots", "cpu_slots")}
    profile = {**CROWDED_PROFILE, **sizes}
    show(f"starting again with {sizes}")
    with running_fleet(base, folder / "fleet", profile=profile, environment=_ENVIRONMENT) as fleet:
        asyncio.run(ask_in_turn(fleet, tenants))
        asked = zipf(tenants, options.requests, seed=3)
        after = _run(fleet, asked, in_flight=1, sizes=sizes)
    return {
        "rows": rows,
        "plan": plan,
        "after": after,
        "promise_points": 100 * abs(after["miss_ratio_counted"] - plan["predicted"]["miss_ratio"]),
    }


def _percent(share: float | None) -> str:
    return "none counted" if share is None else f"{100 * share:+.2f} %"


def main() -> None:
    """Print one JSON line per run and the verdict on the promise; all of it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", choices=("tiny", "smol"), default="tiny")
    parser.add_argument("--adapters", type=int, default=40)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--target", type=float, default=0.1, help="goal: miss ratio")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    base = tiny_base() if options.base == "tiny" else smol_base()
    with tempfile.TemporaryDirectory() as text:
        result = _measure(base, Path(text), options)
    for row in (*result["rows"], result["after"]):
        print(
            f"{row['in_flight']} in flight, {row['gpu_slots']} slots: slot loads "
            f"{row['loads_cache_predicted']:.0f} predicted, {row['loads_cache_counted']} counted "
            f"({_percent(row['loads_cache_error'])}); reads from disk "
            f"{row['loads_disk_predicted']:.0f} predicted, {row['loads_disk_counted']} counted"
        )
    print(
        f"promised miss ratio {result['plan']['predicted']['miss_ratio']:.4f}, counted "
        f"{result['after']['miss_ratio_counted']:.4f}: {result['promise_points']:.2f} points apart"
    )
    if options.out:
        document = {"environment": describe_environment(), "profile": CROWDED_PROFILE, **result}
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
