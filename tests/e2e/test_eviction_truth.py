"""The engine's counts equal an independent LRU model, to the last load and eviction."""

from __future__ import annotations

import random
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.conftest import CPU_SLOTS, GPU_SLOTS
from tests.e2e.fleet import Fleet

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
N_ADAPTERS, N_ACCESSES = 12, 300


class Lru:
    """The textbook definition; shares nothing with the product."""

    def __init__(self, capacity: int, content: list[str]) -> None:
        self.capacity = capacity
        self.order = OrderedDict.fromkeys(content)
        self.loads: Counter[str] = Counter()
        self.evictions: Counter[str] = Counter()

    def access(self, name: str) -> None:
        if name in self.order:
            self.order.move_to_end(name)
            return
        self.loads[name] += 1
        if len(self.order) == self.capacity:
            victim, _ = self.order.popitem(last=False)
            self.evictions[victim] += 1
        self.order[name] = None


def test_loads_and_evictions_equal_an_independent_lru(
    fleet: Fleet, tenant: str, adapters: list[Path]
) -> None:
    key = fleet.tenant(tenant)
    names = [f"{tenant}/a{index:02d}" for index in range(N_ADAPTERS)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(fleet.push_live, names, adapters))
    draw = random.Random(20)
    weights = [1 / (rank + 1) for rank in range(N_ADAPTERS)]
    accesses = draw.choices(names, weights, k=N_ACCESSES)
    for name in names[:GPU_SLOTS]:  # so that both caches hold only this test's adapters
        fleet.answer(key, name, "warm", max_tokens=1)
    before = fleet.facts()
    caches = {
        "slot": Lru(GPU_SLOTS, before["active"]),
        "cache": Lru(CPU_SLOTS, before["cached"]),
    }

    for name in accesses:
        fleet.answer(key, name, "again", max_tokens=2)
        for cache in caches.values():
            cache.access(f"{name}@1")

    after = fleet.facts()
    for name in (f"{name}@1" for name in names):
        counted = {
            field: after["adapters"][name][field] - before["adapters"][name][field]
            for field in ("loads_disk", "loads_cache", "evictions_slot", "evictions_cache")
        }
        assert counted == {
            "loads_disk": caches["cache"].loads[name],
            "loads_cache": caches["slot"].loads[name],
            "evictions_slot": caches["slot"].evictions[name],
            "evictions_cache": caches["cache"].evictions[name],
        }, name
    assert after["active"] == list(caches["slot"].order)
    assert after["cached"] == list(caches["cache"].order)
    assert after["loads_in_step"] == 0
    assert sum(caches["cache"].evictions.values()) > 20, "the accesses must provoke evictions"
    check_metrics(fleet, f"{names[0]}@1", after)


def check_metrics(fleet: Fleet, name: str, facts: dict[str, dict[str, dict[str, int]]]) -> None:
    text = httpx.get(f"{fleet.engine_url}/metrics").text
    wanted = facts["adapters"][name]["evictions_slot"]
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("loraplane_adapter_evictions_total")
        and f'adapter="{name}"' in line
        and 'level="slot"' in line
    ]
    assert [float(line.rsplit(" ", 1)[1]) for line in lines] == [float(wanted)]
