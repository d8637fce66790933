"""Places of an adapter, the stream's gaps, and what the cold load scenario reads from its rows."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.cold_clients import IN_STEP, OURS, Stream, drop_from_page_cache
from bench.played_controller import PlayedController, running_controller
from bench.scenarios.cold_load import DISK, MEMORY, SLOT, figures_of, places_of
from serving.contract import AliasEntry, FleetSnapshot, decode_snapshot, engine_token

SECRET = "secret"
HEADERS = {"Authorization": f"Bearer {engine_token(SECRET)}"}


def lru_misses(turn: int, *, places: int, n_requests: int) -> int:
    held: OrderedDict[int, None] = OrderedDict()
    misses = 0
    for number in range(n_requests):
        key = number % turn
        misses += key not in held
        held[key] = None
        held.move_to_end(key)
        if len(held) > places:
            held.popitem(last=False)
    return misses


@pytest.mark.parametrize("cpu_slots", [3, 4, 8])
def test_each_place_is_where_an_lru_leaves_the_adapter_that_is_due(cpu_slots: int) -> None:
    turns = {place.name: place.n_in_turn for place in places_of(cpu_slots=cpu_slots)}

    slot_misses = {n: lru_misses(turns[n], places=1, n_requests=60) for n in (SLOT, MEMORY, DISK)}
    reads = {n: lru_misses(turns[n], places=cpu_slots, n_requests=60) for n in (MEMORY, DISK)}

    assert slot_misses == {SLOT: 1, MEMORY: 60, DISK: 60}
    assert reads == {MEMORY: turns[MEMORY], DISK: 60}


def test_a_gap_counts_that_overlaps_the_load() -> None:
    stream = Stream("http://unused", None)
    stream._times = [0.0, 1.0, 1.5, 4.0, 4.1, 9.0]

    assert stream.largest_gap(1.2, 3.0) == 2.5
    assert stream.largest_gap(1.1, 1.4) == 0.5
    assert stream.largest_gap(20.0, 21.0) == 0.0


def row(side: str, run: int, ms: list[float], gap_ms: list[float]) -> dict[str, Any]:
    return {"run": run, "rank": 16, "place": DISK, "side": side, "ms": ms, "gap_ms": gap_ms}


def test_ratios_are_of_one_run_and_percentiles_too() -> None:
    rows = [
        row(IN_STEP, 1, [20, 20], [200]),
        row(OURS, 1, [10, 10], [50]),
        row(OURS, 0, [10, 30], [100]),
        row(IN_STEP, 0, [20, 20], [100]),
    ]

    found = {(f.group, f.name): f.values for f in figures_of(rows)}

    ours = f"rank 16, {DISK}: {OURS}"
    assert found[ours, "time p50"] == (20, 10)
    assert found[ours, "time p50, prefetch / in the step"] == (1, 0.5)
    assert found[ours, "gap p50, prefetch / in the step"] == (1, 0.25)


def test_what_a_swap_costs_is_the_time_from_memory_less_that_from_a_slot() -> None:
    rows = [
        {"run": run, "rank": 8, "place": place, "side": OURS, "ms": [ms]}
        for run, place, ms in (
            (0, SLOT, 10.0),
            (0, MEMORY, 14.0),
            (1, MEMORY, 15.0),
            (1, SLOT, 12.0),
        )
    ]

    (swap,) = (f for f in figures_of(rows) if "swap" in f.name)

    assert swap.values == (4, 3)


def test_dropping_files_from_the_page_cache_leaves_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 8192)

    drop_from_page_cache(tmp_path)

    assert (tmp_path / "a").read_bytes() == b"x" * 8192


def test_an_engine_that_waits_gets_the_next_snapshot_as_soon_as_it_is_published() -> None:
    first = FleetSnapshot(1, "base", "file:///store", [], [], [])
    with running_controller(PlayedController(first, cluster_secret=SECRET)) as played:
        url = f"{played.url}/internal/v1/snapshot"
        asked = {"after": 1, "wait": 10}
        threading.Timer(0.05, played.publish, kwargs={"aliases": [AliasEntry("a", "b", 1)]}).start()
        started = time.monotonic()

        answer = httpx.get(url, params=asked, headers=HEADERS, trust_env=False)

        assert decode_snapshot(answer.content).revision == 2
        assert time.monotonic() - started < 5
        late = httpx.get(url, params={"after": 2, "wait": 0}, headers=HEADERS, trust_env=False)
        assert late.status_code == httpx.codes.NOT_MODIFIED
        assert httpx.get(url, params=asked, trust_env=False).status_code == 401
        report = httpx.post(f"{played.url}/internal/v1/engines/e/report", trust_env=False)
        assert report.status_code == httpx.codes.NO_CONTENT
