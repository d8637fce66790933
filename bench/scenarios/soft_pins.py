"""What do soft pins save when scans sweep the slots, and do they harm where nothing is hot?

One real engine, one run, the same two traces with the policy off and on in turn. `scans`: a few hot
tenants with steady Poisson traffic, and every so often a burst over all tenants, which pushes the
hot ones out of an LRU's slots. `uniform`: every tenant alike, so that there is nothing to pin.
Counted are the engine's own loads; times are TTFT from when a request was due (open loop).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import describe_environment
from bench.fixtures.adapters import make_random_adapters
from bench.fixtures.base_model import smol_base, tiny_base
from bench.fleet import Fleet, running_fleet
from bench.many_adapters import (
    CROWDED_PROFILE,
    QUICK_GATE,
    Answered,
    Due,
    Tenant,
    counted,
    push_all,
    send_open_loop,
    show,
)

_ENVIRONMENT = {**QUICK_GATE, "LORAPLANE_CAPACITY_POLL_SECONDS": "1"}
_LEAD_IN_SECONDS = 20.0
_MODES = ("off", "auto")


def _scans(tenants: Sequence[Tenant], options: argparse.Namespace, *, seed: int) -> list[Due]:
    """Hot tenants first in the list; a scan takes a third of its period."""
    draw = random.Random(seed)
    plan = _poisson(tenants[: options.hot], options.rate, options.seconds, draw, "hot")
    start = options.scan_every / 2
    while start < options.seconds:
        swept = draw.sample(list(tenants), len(tenants))
        step = options.scan_every / 3 / len(swept)
        plan += [Due(start + index * step, tenant, "scan") for index, tenant in enumerate(swept)]
        start += options.scan_every
    return plan


def _uniform(tenants: Sequence[Tenant], options: argparse.Namespace, *, seed: int) -> list[Due]:
    return _poisson(tenants, options.rate, options.seconds, random.Random(seed), "uniform")


def _poisson(
    tenants: Sequence[Tenant], rate: float, seconds: float, draw: random.Random, kind: str
) -> list[Due]:
    plan, at = [], draw.expovariate(rate)
    while at < seconds:
        plan.append(Due(at, draw.choice(list(tenants)), kind))
        at += draw.expovariate(rate)
    return plan


def _phase(
    fleet: Fleet, name: str, mode: str, lead_in: Sequence[Due], plan: Sequence[Due]
) -> dict[str, Any]:
    fleet.call("PUT", "/v1/capacity/residency", json={"mode": mode})
    # So that the controller has rates, and both kinds start with the caches that they lead to.
    asyncio.run(send_open_loop(fleet, lead_in))
    pinned, before = _pinned(fleet), counted(fleet)
    answered = asyncio.run(send_open_loop(fleet, plan))
    time.sleep(1)
    after = counted(fleet)
    row = {
        "trace": name,
        "mode": mode,
        "n_requests": len(answered),
        "n_refused": sum(answer.status != 200 for answer in answered),
        "pinned": pinned,
        **{field: after[field] - before[field] for field in after},
        "times": {kind: _times(answered, kind) for kind in ("hot", "scan", "uniform", "all")},
    }
    print(json.dumps(row), flush=True)
    return row


def _pinned(fleet: Fleet) -> list[str]:
    (engine,) = fleet.call("GET", "/v1/capacity")["engines"]
    return list(engine["pinned"])


def _times(answered: Sequence[Answered], kind: str) -> dict[str, float] | None:
    seconds = [a.ttft_seconds for a in answered if a.status == 200 and kind in (a.kind, "all")]
    if not seconds:
        return None
    p50, p99 = np.percentile(seconds, [50, 99])
    return {"n": len(seconds), "p50_ms": 1000 * float(p50), "p99_ms": 1000 * float(p99)}


def _measure(fleet: Fleet, tenants: list[Tenant], options: argparse.Namespace) -> list[Any]:
    rows = []
    for name, make in (("scans", _scans), ("uniform", _uniform)):
        plan = make(tenants, options, seed=1)
        lead_options = argparse.Namespace(**{**vars(options), "seconds": _LEAD_IN_SECONDS})
        lead_in = make(tenants, lead_options, seed=2)
        for number in range(options.rounds):
            for mode in _MODES:
                show(f"{name}, round {number + 1}, policy {mode}")
                rows.append(_phase(fleet, name, mode, lead_in, plan))
    return rows


def _ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """On divided by off, of the medians over rounds; with each round's values beside them."""
    result = []
    for trace, kind in (("scans", "hot"), ("scans", "all"), ("uniform", "uniform")):
        for measure in ("loads_cache", "loads_disk", "p50_ms", "p99_ms"):
            values = {
                mode: [
                    row[measure] if measure in row else row["times"][kind][measure]
                    for row in rows
                    if row["trace"] == trace and row["mode"] == mode
                ]
                for mode in _MODES
            }
            off, on = (statistics.median(values[mode]) for mode in _MODES)
            ratio = on / off if off else None
            result.append(
                {"trace": trace, "requests": kind, "measure": measure, "ratio": ratio, **values}
            )
    return result


def main() -> None:
    """Print one JSON line per phase and the ratios; all of it to `--out`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", choices=("tiny", "smol"), default="smol")
    parser.add_argument("--adapters", type=int, default=40)
    parser.add_argument("--hot", type=int, default=5, help="tenants with steady traffic")
    parser.add_argument("--rate", type=float, default=2.0, help="requests per second, all together")
    parser.add_argument("--scan-every", type=float, default=20.0, help="seconds")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured seconds of a phase")
    parser.add_argument("--rounds", type=int, default=2, help="phases of each mode")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    base = tiny_base() if options.base == "tiny" else smol_base()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        adapters = make_random_adapters(
            options.adapters, base=base, folder=folder / "adapters", rank=16
        )
        with running_fleet(
            base, folder / "fleet", profile=CROWDED_PROFILE, environment=_ENVIRONMENT
        ) as fleet:
            rows = _measure(fleet, push_all(fleet, adapters), options)
    ratios = _ratios(rows)
    for row in ratios:
        shown = "none" if row["ratio"] is None else f"{row['ratio']:.2f}"
        print(f"{row['trace']:>8} {row['requests']:>8} {row['measure']:>12} on/off {shown}  {row}")
    if options.out:
        document = {
            "environment": describe_environment(),
            "profile": CROWDED_PROFILE,
            "options": {key: str(value) for key, value in vars(options).items()},
            "rows": rows,
            "ratios": ratios,
        }
        options.out.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
