"""The access trace's ring file: order, laps, crashes; positions never repeat."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from serving.contract import TraceEvent, TraceKind, TracePage
from serving.engine import trace as trace_module
from serving.engine.trace import AccessTrace, TraceUnavailable, Usage
from serving.engine.trace_ring import HEADER_BYTES, RECORD_BYTES

USAGE = Usage(7, 3, 0.25)


def append(trace: AccessTrace, count: int, *, name: str = "acme/support@1") -> None:
    for _ in range(count):
        trace.admitted(name, at=1.0, is_gate=False)


def all_of(trace: AccessTrace, after: int = 0) -> TracePage:
    return trace.page("engine-0", after=after, limit=10_000)


def positions(trace: AccessTrace) -> list[int]:
    return [event.position for event in all_of(trace).events]


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=10)

    first = trace.admitted("acme/support@1", at=100.5, is_gate=False)
    second = trace.admitted("beta/sql@2", at=101.0, is_gate=True)
    trace.finished(first, "acme/support@1", at=102.0, usage=USAGE, is_gate=False)
    trace.finished(second, "beta/sql@2", at=103.0, usage=Usage(), is_gate=True)

    page = all_of(trace)
    assert (page.first, page.next, page.end) == (0, 4, 4)
    assert page.events == [
        TraceEvent(0, 100.5, TraceKind.ADMITTED, "acme/support@1", 0),
        TraceEvent(1, 101.0, TraceKind.ADMITTED, "beta/sql@2", 1, is_gate=True),
        TraceEvent(2, 102.0, TraceKind.FINISHED, "acme/support@1", 0, 7, 3, 0.25),
        TraceEvent(3, 103.0, TraceKind.FINISHED, "beta/sql@2", 1, is_gate=True),
    ]


def test_a_full_ring_overwrites_its_oldest_events_and_says_where_it_begins(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=10)

    append(trace, 25)

    page = all_of(trace, after=3)
    assert (page.first, page.next, page.end) == (15, 25, 25)
    assert positions(trace) == list(range(15, 25))
    assert (tmp_path / "ring.bin").stat().st_size == HEADER_BYTES + 10 * RECORD_BYTES


def test_pages_follow_each_other_without_gap_or_repetition(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=100)
    append(trace, 130)

    found: list[int] = []
    after = 0
    while (page := trace.page("engine-0", after=after, limit=7)).events:
        found += [event.position for event in page.events]
        after = page.next

    assert found == list(range(30, 130))
    assert all_of(trace, after=10_000).next == 130


def test_a_restart_goes_on_where_the_last_life_ended(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=10)
    append(trace, 14)
    trace.close()

    trace = AccessTrace(tmp_path, capacity=10)
    append(trace, 1, name="beta/sql@2")

    assert positions(trace) == list(range(5, 15))
    assert all_of(trace).events[-1].adapter == "beta/sql@2"


def test_a_killed_process_leaves_every_event_that_it_flushed(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from serving.engine.trace import AccessTrace\n"
        "trace = AccessTrace(Path(sys.argv[1]), capacity=1000)\n"
        "while True:\n"
        "    for _ in range(trace.end % 5 + 1):\n"
        "        position = trace.admitted(f'acme/a{trace.end % 7}@1', at=1.0, is_gate=False)\n"
        "    trace.flush()\n"
        "    print(position, flush=True)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    told = [int(child.stdout.readline()) for _ in range(2500)]
    os.kill(child.pid, signal.SIGKILL)
    told += [int(line) for line in child.stdout if line.endswith("\n")]
    child.wait()

    trace = AccessTrace(tmp_path, capacity=1000)

    found = all_of(trace).events
    assert trace.end > told[-1]
    assert [event.position for event in found] == list(range(trace.end - 1000, trace.end))
    assert {event.adapter for event in found} == {f"acme/a{index}@1" for index in range(7)}
    assert all(event.adapter == f"acme/a{event.position % 7}@1" for event in found)


@pytest.mark.parametrize("n_bytes", range(1, RECORD_BYTES))
def test_a_torn_last_record_is_dropped_and_never_misread(tmp_path: Path, n_bytes: int) -> None:
    trace = AccessTrace(tmp_path, capacity=4)
    append(trace, 6)
    trace.flush()
    before = (tmp_path / "ring.bin").read_bytes()
    trace.finished(5, "acme/support@1", at=2.0, usage=USAGE, is_gate=True)
    trace.close()
    after = (tmp_path / "ring.bin").read_bytes()
    start = HEADER_BYTES + 2 * RECORD_BYTES
    torn = after[: start + n_bytes] + before[start + n_bytes :]
    (tmp_path / "ring.bin").write_bytes(torn)

    trace = AccessTrace(tmp_path, capacity=4)

    whole = torn == after
    assert trace.end == (7 if whole else 6)
    assert positions(trace) == ([3, 4, 5, 6] if whole else [3, 4, 5])


def test_a_machine_that_went_down_never_gives_a_position_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = AccessTrace(tmp_path, capacity=10)
    append(trace, 14)
    trace.flush()
    copy = tmp_path / "restored"
    copy.mkdir()
    for file in ("ring.bin", "names.txt"):
        (copy / file).write_bytes((tmp_path / file).read_bytes())
    append(trace, 5)  # Read by somebody, and lost with the machine's memory.
    boot = tmp_path / "boot_id"
    boot.write_text("another boot\n")
    monkeypatch.setattr(trace_module, "_BOOT_ID", boot)

    for _ in range(2):  # The second time nothing was appended in between.
        restarted = AccessTrace(copy, capacity=10)
        assert restarted.end >= trace.end
        assert all_of(restarted).events == []
        restarted.close()
    restarted = AccessTrace(copy, capacity=10)
    append(restarted, 3)
    assert positions(restarted) == [restarted.end - 3, restarted.end - 2, restarted.end - 1]


def test_another_capacity_starts_an_empty_ring_and_positions_go_on(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=10)
    append(trace, 14)
    trace.close()

    for _ in range(2):
        trace = AccessTrace(tmp_path, capacity=20)
        assert (all_of(trace).events, trace.end) == ([], 14)
        trace.close()
    trace = AccessTrace(tmp_path, capacity=20)
    append(trace, 3)

    assert positions(trace) == [14, 15, 16]


def test_an_event_whose_name_is_lost_is_never_given_another(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=10)
    append(trace, 2, name="acme/kept@1")
    trace.close()
    kept = (tmp_path / "names.txt").read_bytes()
    trace = AccessTrace(tmp_path, capacity=10)
    append(trace, 2, name="acme/lost@1")
    append(trace, 2, name="acme/kept@1")
    trace.close()
    (tmp_path / "names.txt").write_bytes(kept)

    for _ in range(2):
        trace = AccessTrace(tmp_path, capacity=10)
        assert positions(trace)[:2] == [4, 5]
        append(trace, 1, name="beta/new@1")
        trace.close()

    trace = AccessTrace(tmp_path, capacity=10)
    assert [event.adapter for event in all_of(trace).events] == [
        *["acme/kept@1"] * 2,
        *["beta/new@1"] * 2,
    ]


def test_two_processes_never_write_one_ring(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=10)

    with pytest.raises(TraceUnavailable):
        AccessTrace(tmp_path, capacity=10)

    trace.close()
    AccessTrace(tmp_path, capacity=10).close()


def test_what_a_reader_was_shown_is_in_the_file(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path / "ours", capacity=10)
    append(trace, 3)
    shown = positions(trace)
    append(trace, 1)  # Shown to nobody.
    copied = tmp_path / "killed"
    shutil.copytree(tmp_path / "ours", copied)

    restarted = AccessTrace(copied, capacity=10)

    assert shown == positions(restarted) == [0, 1, 2]


def test_events_do_not_wait_in_memory_without_end(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path / "ours", capacity=10_000)
    append(trace, 1000)
    copied = tmp_path / "killed"
    shutil.copytree(tmp_path / "ours", copied)

    assert AccessTrace(copied, capacity=10_000).end > 1000 - 256


def test_events_that_the_disk_does_not_take_are_lost_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = AccessTrace(tmp_path, capacity=10)
    append(trace, 2)
    trace.flush()

    def refuse(*_: object) -> int:
        raise OSError(errno.EIO, "the disk refuses")

    with monkeypatch.context() as patched:
        patched.setattr(trace_module.os, "pwrite", refuse)
        append(trace, 3)
        trace.flush()
    append(trace, 2, name="beta/sql@2")

    assert trace.n_lost == 3
    page = all_of(trace)
    assert [event.position for event in page.events] == [5, 6]
    assert (page.first, page.next, page.end) == (5, 7, 7)
    trace.close()
    assert positions(AccessTrace(tmp_path, capacity=10)) == [5, 6]


def test_an_append_after_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    trace = AccessTrace(tmp_path, capacity=10)
    trace.close()

    append(trace, 1)

    assert (trace.end, trace.n_lost) == (0, 1)
