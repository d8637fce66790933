"""Whatever the order of requests, what is leased is in memory and memory is never over its size."""

from __future__ import annotations

import asyncio
import tempfile
from collections import OrderedDict
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.engine.admission import Admission, AdmissionTimeout
from tests.fakes.engine_port import FakeEnginePort

NAMES = "abcdefgh"


def build(
    folder: Path, cpu_slots: int, *, hot: frozenset[str] = frozenset()
) -> tuple[Admission, FakeEnginePort]:
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / "weights").write_text(name)
    port = FakeEnginePort(cpu_slots=cpu_slots)
    return (
        Admission(
            port,
            cpu_slots=cpu_slots,
            path_of=lambda name: str(folder / name),
            importance_of=lambda _name: 2,
            is_hot=hot.__contains__,
        ),
        port,
    )


async def serve(admission: Admission, port: FakeEnginePort, name: str, n_turns: int) -> None:
    try:
        lease = await admission.lease(name, wait_seconds=2)
    except AdmissionTimeout:
        return
    for _ in range(n_turns):
        assert name in port.cached
        assert admission.leased <= port.cached.keys()
        await asyncio.sleep(0)
    lease.release()


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 5)), max_size=30),
)
def test_a_lease_means_in_memory_until_its_end(
    cpu_slots: int, requests: list[tuple[str, int]]
) -> None:
    async def scenario(folder: Path) -> None:
        admission, port = build(folder, cpu_slots)
        await asyncio.gather(*(serve(admission, port, name, turns) for name, turns in requests))
        assert len(port.cached) <= cpu_slots
        assert set(admission.resident) == set(port.cached)
        assert not admission.leased

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.frozensets(st.sampled_from(NAMES), max_size=3),
    st.lists(st.tuples(st.sampled_from(NAMES), st.booleans(), st.integers(0, 5)), max_size=30),
)
def test_reading_ahead_and_hot_adapters_take_nothing_from_who_holds_a_lease(
    cpu_slots: int, hot: frozenset[str], asked: list[tuple[str, bool, int]]
) -> None:
    async def scenario(folder: Path) -> None:
        admission, port = build(folder, cpu_slots, hot=hot)
        await asyncio.gather(
            *(
                admission.prefetch(name, victim_idle_seconds=0)
                if is_ahead
                else serve(admission, port, name, turns)
                for name, is_ahead, turns in asked
            )
        )
        assert len(port.cached) <= cpu_slots
        assert set(admission.resident) == set(port.cached)
        assert not admission.leased
        assert not any(admission.claims(name) for name in NAMES)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenario(Path(folder)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 5), st.lists(st.sampled_from(NAMES), max_size=60))
def test_one_after_the_other_it_is_exactly_lru(cpu_slots: int, accesses: list[str]) -> None:
    model: OrderedDict[str, None] = OrderedDict()
    n_loads = n_evictions = 0
    for name in accesses:
        if name in model:
            model.move_to_end(name)
            continue
        n_loads += 1
        if len(model) == cpu_slots:
            model.popitem(last=False)
            n_evictions += 1
        model[name] = None

    async def scenario(folder: Path) -> FakeEnginePort:
        admission, port = build(folder, cpu_slots)
        for name in accesses:
            (await admission.lease(name, wait_seconds=2)).release()
        assert admission.resident == tuple(model)
        return port

    with tempfile.TemporaryDirectory() as folder:
        port = asyncio.run(scenario(Path(folder)))
    assert sum(counts.loads_disk for counts in port.loads.values()) == n_loads
    assert sum(counts.evictions_cache for counts in port.loads.values()) == n_evictions
