"""Leases: what answers a request stays in memory, and nobody waits for ever."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from serving.engine.admission import Admission, AdmissionTimeout
from serving.engine.ports import EngineUnavailable, LoadRefused
from tests.fakes.engine_port import FakeEnginePort


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def room(
    tmp_path: Path,
    *,
    cpu_slots: int = 2,
    importance: dict[str, int] | None = None,
    hot: str = "",
    clock: Clock | None = None,
) -> tuple[Admission, FakeEnginePort]:
    for name in "abcdef":
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(name)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "weights").write_text("REFUSE")
    port = FakeEnginePort(cpu_slots=cpu_slots)
    levels = importance or {}
    admission = Admission(
        port,
        cpu_slots=cpu_slots,
        path_of=lambda name: str(tmp_path / name),
        importance_of=lambda name: levels.get(name, 2),
        is_hot=lambda name: name in hot,
        clock=clock or Clock(),
    )
    return admission, port


async def use(admission: Admission, name: str) -> None:
    (await admission.lease(name, wait_seconds=1)).release()


async def test_the_least_recently_used_idle_adapter_makes_room(tmp_path: Path) -> None:
    admission, port = room(tmp_path)

    for name in ("a", "b", "a", "c"):
        await use(admission, name)

    assert admission.resident == tuple(port.cached) == ("a", "c")


async def test_ten_requests_for_one_adapter_are_one_load(tmp_path: Path) -> None:
    admission, port = room(tmp_path)

    leases = await asyncio.gather(*(admission.lease("a", wait_seconds=1) for _ in range(10)))

    assert port.loads["a"].loads_disk == 1
    assert admission.claims("a") == 10
    for lease in leases:
        lease.release()
        lease.release()
    assert admission.claims("a") == 0


async def test_a_leased_adapter_is_never_evicted(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    held = await admission.lease("a", wait_seconds=1)

    for name in ("b", "c", "d"):
        await use(admission, name)

    assert "a" in port.cached
    held.release()


async def test_an_adapter_that_the_engine_still_works_on_is_not_evicted(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    await use(admission, "a")
    port.requests["a"] = 1

    for name in ("b", "c"):
        await use(admission, name)

    assert set(port.cached) == {"a", "c"}


async def test_waiting_for_room_is_bounded_and_leaves_no_trace(tmp_path: Path) -> None:
    admission, _ = room(tmp_path)
    held = [await admission.lease(name, wait_seconds=1) for name in "ab"]

    with pytest.raises(AdmissionTimeout):
        await admission.lease("c", wait_seconds=0.05)

    assert admission.claims("c") == 0
    for lease in held:
        lease.release()
    await use(admission, "d")
    assert "d" in admission.resident


async def test_who_asked_first_gets_the_first_free_place(tmp_path: Path) -> None:
    admission, _ = room(tmp_path, cpu_slots=1)
    held = await admission.lease("a", wait_seconds=1)
    order: list[str] = []

    async def ask(name: str) -> None:
        lease = await admission.lease(name, wait_seconds=5)
        order.append(name)
        await asyncio.sleep(0)
        lease.release()

    waiting = []
    for name in "bcd":
        waiting.append(asyncio.create_task(ask(name)))
        await asyncio.sleep(0)
    held.release()
    await asyncio.gather(*waiting)

    assert order == ["b", "c", "d"]


async def test_a_cancelled_request_gives_up_its_claim(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    port.may_read.clear()
    task = asyncio.create_task(admission.lease("a", wait_seconds=5))
    await asyncio.sleep(0.01)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert admission.claims("a") == 0
    port.may_read.set()
    await use(admission, "b")
    assert admission.leased == frozenset()


async def test_a_refused_adapter_evicts_nobody(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    for name in "ab":
        await use(admission, name)

    with pytest.raises(LoadRefused):
        await admission.lease("bad", wait_seconds=1)

    assert admission.resident == tuple(port.cached) == ("a", "b")
    assert admission.claims("bad") == 0


async def test_a_victim_that_is_asked_for_again_is_read_again(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    for name in "ab":
        await use(admission, name)
    port.may_read.clear()
    first = asyncio.create_task(admission.lease("c", wait_seconds=5))
    await asyncio.sleep(0.01)
    again = asyncio.create_task(admission.lease("a", wait_seconds=5))
    await asyncio.sleep(0.01)
    port.may_read.set()

    leases = await asyncio.gather(first, again)

    assert set(port.cached) == {"a", "c"} == set(admission.resident)
    for lease in leases:
        lease.release()


async def test_a_candidate_takes_the_place_of_the_least_important(tmp_path: Path) -> None:
    admission, _ = room(tmp_path, importance={"a": 2, "b": 1, "c": 0})
    for name in "ab":
        await use(admission, name)

    await use(admission, "c")

    assert set(admission.resident) == {"a", "c"}


async def test_what_could_not_be_removed_still_counts(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    await use(admission, "a")
    port.is_down = True

    with pytest.raises(EngineUnavailable):
        await admission.remove("a")
    assert admission.resident == ("a",)

    port.is_down = False
    await admission.remove("a")
    assert not admission.resident
    assert not port.cached


async def test_stopping_ends_loads_that_run(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    port.may_read.clear()
    task = asyncio.create_task(admission.lease("a", wait_seconds=5))
    await asyncio.sleep(0.01)

    await admission.stop()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert port.n_reading == 0


async def test_a_hot_adapter_is_spared_while_another_one_is_idle(tmp_path: Path) -> None:
    admission, port = room(tmp_path, cpu_slots=3, hot="a")

    for name in "abcdef":
        await use(admission, name)

    assert set(port.cached) == {"a", "e", "f"}


async def test_a_hot_adapter_makes_room_when_nothing_else_can(tmp_path: Path) -> None:
    admission, port = room(tmp_path, hot="ab")
    await use(admission, "a")
    held = await admission.lease("b", wait_seconds=1)

    await use(admission, "c")

    assert set(port.cached) == {"b", "c"}
    held.release()


async def test_a_companion_takes_a_free_place_and_counts_as_no_use(tmp_path: Path) -> None:
    admission, port = room(tmp_path)
    await use(admission, "a")

    assert await admission.prefetch("b", victim_idle_seconds=300)
    assert not await admission.prefetch("b", victim_idle_seconds=300)

    assert admission.resident == tuple(port.cached) == ("a", "b")
    assert admission.claims("b") == 0


async def test_a_companion_takes_the_place_of_what_was_long_unused_alone(tmp_path: Path) -> None:
    clock = Clock()
    admission, port = room(tmp_path, cpu_slots=3, hot="a", clock=clock)
    for name in "abc":
        await use(admission, name)

    clock.now += 299
    await use(admission, "c")
    assert not await admission.prefetch("d", victim_idle_seconds=300)
    clock.now += 2
    assert await admission.prefetch("d", victim_idle_seconds=300)
    assert not await admission.prefetch("e", victim_idle_seconds=300)

    assert admission.resident == tuple(port.cached) == ("a", "c", "d")


async def test_a_companion_waits_for_the_loads_that_somebody_waits_for(tmp_path: Path) -> None:
    admission, port = room(tmp_path, cpu_slots=4)
    port.may_read.clear()
    asked = asyncio.gather(*(admission.lease(name, wait_seconds=1) for name in "ab"))
    await asyncio.sleep(0)
    companion = asyncio.create_task(admission.prefetch("c", victim_idle_seconds=300))
    await asyncio.sleep(0)

    port.may_read.set()
    for lease in await asked:
        lease.release()
    await companion

    assert tuple(port.cached) == ("a", "b", "c")


async def test_a_refused_companion_gives_its_victims_place_back(tmp_path: Path) -> None:
    clock = Clock()
    admission, port = room(tmp_path, clock=clock)
    for name in "ab":
        await use(admission, name)
    clock.now += 1000

    with pytest.raises(LoadRefused):
        await admission.prefetch("bad", victim_idle_seconds=300)

    assert admission.resident == tuple(port.cached) == ("a", "b")
    assert admission.claims("bad") == 0
