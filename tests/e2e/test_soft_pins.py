"""Wishes from end to end: the controller sees what is hot, the engine keeps it through a scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import GPU_SLOTS
from tests.e2e.fleet import Fleet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
N_COLD = 2 * GPU_SLOTS
_WISH_SECONDS = 150.0
"""A choice is made every ten seconds, and an earlier one stays for a minute."""


@pytest.fixture
def pinning_fleet(fleet: Fleet) -> Iterator[Fleet]:
    """Soft pins on for one test; the others count on a plain LRU."""
    fleet.must("PUT", "/v1/capacity/residency", json={"mode": "auto"})
    yield fleet
    fleet.must("PUT", "/v1/capacity/residency", json={"mode": "off"})
    wait_for_pins(fleet, lambda kept: not kept)


def pinned(fleet: Fleet) -> set[str]:
    (engine,) = fleet.must("GET", "/v1/capacity")["engines"]
    return set(engine["pinned"])


def wait_for_pins(fleet: Fleet, is_reached: Callable[[set[str]], bool]) -> None:
    deadline = time.monotonic() + _WISH_SECONDS
    while not is_reached(kept := pinned(fleet)):
        assert time.monotonic() < deadline, f"{kept} are kept"
        time.sleep(0.5)


def loads(fleet: Fleet, version: str) -> int:
    return int(fleet.facts()["adapters"][version].get("loads_cache", 0))


def test_a_hot_adapter_is_kept_through_a_scan_and_let_go_when_switched_off(
    pinning_fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    fleet, key = pinning_fleet, pinning_fleet.tenant(tenant)
    hot, *cold = names = [f"{tenant}/p{index}" for index in range(1 + N_COLD)]
    for name, folder in zip(names, adapters, strict=False):
        fleet.push_live(name, folder)
    for name in cold:
        fleet.answer(key, name, "seldom", max_tokens=1)
    for _ in range(300):  # more than other tests' adapters were asked for lately
        fleet.answer(key, hot, "hot", max_tokens=1)
    wait_for_pins(fleet, lambda kept: f"{hot}@1" in kept)
    before = loads(fleet, f"{hot}@1")

    for name in cold:
        fleet.answer(key, name, "scan", max_tokens=1)
    fleet.answer(key, hot, "still there?", max_tokens=1)
    kept = loads(fleet, f"{hot}@1") - before
    fleet.must("PUT", "/v1/capacity/residency", json={"mode": "off"})
    wait_for_pins(fleet, lambda kept: not kept)
    for name in cold:
        fleet.answer(key, name, "scan", max_tokens=1)
    fleet.answer(key, hot, "gone?", max_tokens=1)

    assert kept == 0
    assert loads(fleet, f"{hot}@1") - before == 1
