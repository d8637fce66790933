"""What is noted beside requests is traced and counted, in its order, before anybody reads it."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path

import pytest

from serving.contract import TraceKind
from serving.engine.admission import Admission, Lease
from serving.engine.journal import Hold, Journal
from serving.engine.metrics import EngineMetrics
from serving.engine.series import FinishedRequest
from serving.engine.trace import AccessTrace, Usage
from serving.engine.tracing import Tracing
from tests.fakes.engine_port import FakeEnginePort

NAME = "acme/support@1"


def _adapter(folder: Path) -> Path:
    adapter = folder / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    (adapter / "adapter_model.safetensors").write_text("some")
    return adapter


class Noted:
    """A journal with what it writes into, and one version in memory; its clock stands still."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.tracing = Tracing(AccessTrace(folder, capacity=10_000), "engine-0")
        self.metrics = EngineMetrics(gpu_slots=1, clock=lambda: self.now)
        self.journal = Journal(self.tracing, self.metrics, lambda: self.now)
        self.admission = Admission(
            FakeEnginePort(cpu_slots=1),
            cpu_slots=1,
            path_of=lambda _name: str(_adapter(folder)),
            importance_of=lambda _name: 2,
        )

    async def lease(self) -> Lease:
        return await self.admission.lease(NAME, wait_seconds=10)

    async def hold(self, *, waited: float = 0.0, is_gate: bool = False) -> Hold:
        asked_at = self.now - waited
        return Hold(self.journal, await self.lease(), asked_at=asked_at, is_gate=is_gate)

    async def kinds(self) -> list[tuple[TraceKind, int]]:
        page = await self.tracing.page(0, 10_000)
        assert page is not None
        return [(event.kind, event.request) for event in page.events]


@pytest.fixture
def noted(tmp_path: Path) -> Noted:
    return Noted(tmp_path)


async def test_requests_are_in_the_trace_in_the_order_of_what_became_of_them(noted: Noted) -> None:
    first, second = await noted.hold(), await noted.hold(is_gate=True)
    second.release()
    with noted.tracing.span(NAME, is_gate=True):
        first.release()

    assert await noted.kinds() == [
        (TraceKind.ADMITTED, 0),
        (TraceKind.ADMITTED, 1),
        (TraceKind.FINISHED, 1),
        (TraceKind.ADMITTED, 3),
        (TraceKind.FINISHED, 0),
        (TraceKind.FINISHED, 3),
    ]
    assert noted.tracing.end == 6


async def test_a_hold_that_is_released_twice_has_ended_once(noted: Noted) -> None:
    one, other = await noted.hold(), await noted.hold()

    one.release()
    one.release()

    assert noted.admission.claims(NAME) == 1
    other.release()
    assert noted.admission.claims(NAME) == 0
    assert await noted.kinds() == [
        (TraceKind.ADMITTED, 0), (TraceKind.ADMITTED, 1), (TraceKind.FINISHED, 0),
        (TraceKind.FINISHED, 1),
    ]  # fmt: skip


async def test_an_event_says_when_it_happened_and_not_when_it_was_written(noted: Noted) -> None:
    hold = await noted.hold()
    noted.now += 30.0
    hold.release()
    noted.now += 500.0

    page = await noted.tracing.page(0, 10)

    assert page is not None
    begun, ended = page.events
    assert ended.at - begun.at == pytest.approx(30.0)


async def test_waits_and_uses_count_for_tenants_and_not_for_the_gate(noted: Noted) -> None:
    (await noted.hold(waited=0.25)).release()
    (await noted.hold(waited=9.0, is_gate=True)).release()

    (counts,) = noted.metrics.counts()

    assert counts.wait_seconds == 0.25
    assert noted.metrics.hot() == {"1m": 1, "5m": 1, "1h": 1}


async def test_what_the_engine_did_not_end_is_counted_as_aborted_as_far_as_it_came(
    noted: Noted,
) -> None:
    hold = await noted.hold()
    hold.open("ended", lambda: Usage(5, 2, 0.5))
    hold.close("ended")
    hold.open("given up", lambda: Usage(3, 1))
    noted.now += 2.0
    hold.release()

    (counts,) = noted.metrics.counts()
    page = await noted.tracing.page(0, 10)

    assert (counts.requests, counts.prompt_tokens, counts.completion_tokens) == (1, 3, 1)
    assert page is not None
    assert (page.events[1].prompt_tokens, page.events[1].completion_tokens) == (8, 3)


async def test_a_part_that_the_engine_ends_after_its_client_has_gone_is_counted_once(
    noted: Noted,
) -> None:
    hold = await noted.hold()
    hold.open("part", lambda: Usage(5, 2, 0.5))

    hold.release()
    hold.close("part")
    noted.journal.note(lambda: FinishedRequest(NAME, 5, 2, 0.5, 1.0, "stop"))

    (counts,) = noted.metrics.counts()
    assert (counts.requests, counts.completion_tokens) == (1, 2)


async def test_a_part_that_was_counted_as_aborted_is_no_more_the_engines_to_end(
    noted: Noted,
) -> None:
    hold = await noted.hold()
    hold.open("part", lambda: Usage(5, 2, 0.5))

    hold.release()
    noted.journal.settle()

    assert hold.close("part") is False
    (counts,) = noted.metrics.counts()
    assert (counts.requests, counts.completion_tokens) == (1, 2)


async def test_what_cannot_be_counted_takes_nothing_with_it(noted: Noted) -> None:
    def broken() -> Usage:
        raise AttributeError("another vLLM")

    def unreadable() -> FinishedRequest:
        raise AttributeError("another vLLM")

    hold = await noted.hold()
    hold.open("part", broken)
    hold.release()
    noted.journal.note(unreadable)
    noted.journal.note(lambda: FinishedRequest(NAME, 5, 2, 0.5, 1.0, "stop"))
    (await noted.hold()).release()

    (counts,) = noted.metrics.counts()

    assert (counts.requests, counts.completion_tokens, noted.journal.n_lost) == (1, 2, 2)
    assert await noted.kinds() == [
        (TraceKind.ADMITTED, 0), (TraceKind.ADMITTED, 1), (TraceKind.FINISHED, 1),
    ]  # fmt: skip


async def test_more_than_are_noted_at_once_are_all_counted(noted: Noted) -> None:
    for _ in range(1600):
        (await noted.hold(waited=0.5)).release()
        noted.journal.note(lambda: FinishedRequest(NAME, 7, 1, 0.1, 1.0, "stop"))

    (counts,) = noted.metrics.counts()

    assert (counts.requests, counts.wait_seconds) == (1600, 1600 * 0.5)
    assert noted.tracing.end == 3200


async def test_it_is_written_soon_when_nobody_asks(noted: Noted, tmp_path: Path) -> None:
    (await noted.hold()).release()

    async with asyncio.timeout(30):
        while NAME not in (tmp_path / "names.txt").read_text():  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.01)


async def test_what_was_noted_last_is_in_the_trace_that_is_closed(
    noted: Noted, tmp_path: Path
) -> None:
    (await noted.hold()).release()

    noted.tracing.close()

    reopened = AccessTrace(tmp_path, capacity=10_000)
    assert reopened.end == 2
    reopened.close()


async def test_an_ended_request_leaves_nothing_that_only_the_collector_could_free(
    noted: Noted,
) -> None:
    hold = await noted.hold()
    hold.open("knows its hold", lambda hold=hold: Usage(1, hold.is_gate))  # type: ignore[misc]
    hold.close("knows its hold")
    hold.open("given up", lambda hold=hold: Usage(1, hold.is_gate))  # type: ignore[misc]
    gc.disable()
    try:
        hold.release()
        del hold
        noted.journal.settle()
        assert not [one for one in gc.get_objects() if isinstance(one, Hold)]
    finally:
        gc.enable()
