"""Two events per request, whatever becomes of it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from serving.contract import TraceKind
from serving.engine.trace import AccessTrace, Usage
from serving.engine.tracing import Tracing
from serving.settings import EngineSettings


async def test_an_end_is_written_with_what_was_taken(tmp_path: Path) -> None:
    tracing = Tracing(AccessTrace(tmp_path, capacity=100), "engine-0")

    with tracing.span("beta/sql@1", is_gate=True):
        position = tracing.admitted("acme/support@1", at=1.0, is_gate=False)
        tracing.ended(position, "acme/support@1", Usage(7, 3, 0.25), at=2.0, is_gate=False)

    page = await tracing.page(0, 100)
    assert page is not None
    assert [(event.kind, event.request, event.is_gate) for event in page.events] == [
        (TraceKind.ADMITTED, 0, True),
        (TraceKind.ADMITTED, 1, False),
        (TraceKind.FINISHED, 1, False),
        (TraceKind.FINISHED, 0, True),
    ]
    finished = page.events[2]
    assert (finished.prompt_tokens, finished.completion_tokens) == (7, 3)
    assert finished.ttft_seconds == 0.25
    assert tracing.end == 4


async def test_an_event_is_in_the_file_soon_after_it_happened(tmp_path: Path) -> None:
    tracing = Tracing(AccessTrace(tmp_path / "ours", capacity=100), "engine-0")

    position = tracing.admitted("acme/support@1", at=1.0, is_gate=False)
    for number, n_events in enumerate((1, 2)):
        async with asyncio.timeout(30):
            while _end_of_copy(tmp_path, number) < n_events:
                await asyncio.sleep(0.02)
                number += 10
        tracing.ended(position, "acme/support@1", at=2.0, is_gate=False)


def _end_of_copy(folder: Path, number: int) -> int:
    """Events that would be there if the process were killed now."""
    copied = folder / f"killed-{number}"
    shutil.copytree(folder / "ours", copied)
    trace = AccessTrace(copied, capacity=100)
    trace.close()
    return trace.end


async def test_a_trace_that_has_been_closed_is_told_as_none(tmp_path: Path) -> None:
    tracing = Tracing(AccessTrace(tmp_path, capacity=100), "engine-0")
    tracing.admitted("acme/support@1", at=1.0, is_gate=False)

    tracing.close()
    tracing.close()

    assert await tracing.page(0, 100) is None


def test_an_engine_whose_disk_refuses_the_trace_goes_on_without(tmp_path: Path) -> None:
    (tmp_path / "trace").write_text("not a folder")

    for settings in (
        EngineSettings(engine_dir=tmp_path),
        EngineSettings(engine_dir=tmp_path / "off", trace_events=0),
    ):
        tracing = Tracing.of(settings)
        with tracing.span("acme/support@1", is_gate=False):
            pass
        assert tracing.end == 0
        assert asyncio.run(tracing.page(0, 10)) is None
        tracing.close()
