"""The controller's miss-ratio curve, from the engine's trace alone, equals the engine's counts."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import CPU_SLOTS, GPU_SLOTS
from tests.e2e.fleet import Fleet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
N_ADAPTERS, N_REQUESTS = 10, 200
_CATCH_UP_SECONDS = 60.0


def the_curve(fleet: Fleet) -> dict[str, Any]:
    (engine,) = fleet.must("GET", "/v1/capacity?window=24h")["engines"]
    return dict(engine["curve"] or {"n_requests": 0, "points": []})


def misses(curve: dict[str, Any], slots: int) -> float:
    ratio = {point["slots"]: point["miss_ratio"] for point in curve["points"]}
    return curve["n_requests"] * ratio[min(slots, max(ratio))] if ratio else 0.0


def caught_up(fleet: Fleet, n_requests: int) -> dict[str, Any]:
    deadline = time.monotonic() + _CATCH_UP_SECONDS
    while (curve := the_curve(fleet))["n_requests"] < n_requests:
        assert time.monotonic() < deadline, f"{curve['n_requests']} of {n_requests} requests"
        time.sleep(0.5)
    return curve


def test_predicted_loads_equal_the_engines_counts_when_requests_are_sequential(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    key = fleet.tenant(tenant)
    names = [f"{tenant}/c{index:02d}" for index in range(N_ADAPTERS)]
    for name, folder in zip(names, adapters, strict=False):
        fleet.push_live(name, folder)
    for name in names:  # from here on both caches hold nothing but what the trace put there
        fleet.answer(key, name, "warm", max_tokens=1)
    time.sleep(2.0)
    before, curve_before = fleet.facts(), settled(fleet)
    accesses = random.Random(4).choices(
        names, [1 / rank for rank in range(1, N_ADAPTERS + 1)], k=N_REQUESTS
    )

    for name in accesses:
        fleet.answer(key, name, "again", max_tokens=2)

    curve = caught_up(fleet, curve_before["n_requests"] + N_REQUESTS)
    after = fleet.facts()
    assert curve["n_requests"] == curve_before["n_requests"] + N_REQUESTS
    for field, slots in (("loads_cache", GPU_SLOTS), ("loads_disk", CPU_SLOTS)):
        counted = sum(
            after["adapters"][f"{name}@1"].get(field, 0)
            - before["adapters"][f"{name}@1"].get(field, 0)
            for name in names
        )
        predicted = misses(curve, slots) - misses(curve_before, slots)
        assert counted > 20
        assert predicted == pytest.approx(counted, abs=1e-6), field


def settled(fleet: Fleet) -> dict[str, Any]:
    """The curve once it has stopped growing: earlier tests' requests are in it."""
    found = the_curve(fleet)
    while True:
        time.sleep(6)
        later = the_curve(fleet)
        if later["n_requests"] == found["n_requests"]:
            return later
        found = later
