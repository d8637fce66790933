"""The processes that one started process has become: their memory, and their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

_PROC = Path("/proc")
PID_FILE = "engine.pid"
"""Within an engine's folder; its guard writes it."""
_EARLIER_SECONDS = 60.0
_POLL_SECONDS = 0.25


def group_members(leader: int, *, proc: Path = _PROC) -> Iterator[int]:
    """Ids of the group's processes that have not ended; none where there is no /proc."""
    for entry in proc.glob("[0-9]*"):
        try:
            stat = (entry / "stat").read_text()
        except OSError:
            continue  # It ended meanwhile.
        # The name in brackets may hold anything; after it: state, parent, group.
        state, _, group = stat.rpartition(")")[2].split()[:3]
        if int(group) == leader and state != "Z":
            yield int(entry.name)


def resident_bytes(leader: int, *, proc: Path = _PROC) -> int:
    """Memory of the whole group in bytes; pages that several processes share count once (PSS)."""
    total = 0
    for pid in group_members(leader, proc=proc):
        with contextlib.suppress(OSError):
            rollup = (proc / str(pid) / "smaps_rollup").read_text()
            found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            total += 1024 * int(found[1]) if found else 0
    return total


def wait_for_earlier(engine_dir: Path, tell: Callable[[str, float], None]) -> int | None:
    """Wait until an engine of this folder is gone whose rig was killed; its guard ends it.

    It holds a card's memory and the folder until then. One that stays longer than
    `_EARLIER_SECONDS` is another rig's; its process id.
    """
    try:
        pid = int((engine_dir / PID_FILE).read_text())
    except (OSError, ValueError):
        return None
    started = time.monotonic()
    while runs_for(engine_dir, pid):
        waited = time.monotonic() - started
        if waited >= _EARLIER_SECONDS:
            return pid
        tell("an earlier engine is ending", waited)
        time.sleep(_POLL_SECONDS)
    return None


def runs_for(engine_dir: Path, pid: int, *, proc: Path = _PROC) -> bool:
    """Whether that process is an engine of this folder, and not one that has got its number."""
    try:
        environment = (proc / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return f"LORAPLANE_ENGINE_DIR={engine_dir}".encode() in environment.split(b"\0")


def end_group(process: subprocess.Popen[bytes], *, seconds: float) -> None:
    """End a process that leads its group (`start_new_session`), and all of the group.

    SIGTERM to the process, which ends its children; after `seconds` SIGKILL to whoever is left.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.terminate()
        process.wait(seconds)
    if process.poll() is None or any(group_members(process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def end_on_sigterm() -> Iterator[None]:
    """SIGTERM leaves the block as an exception, so that what it started does not outlive it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        with contextlib.suppress(TypeError):  # One that was not set from Python is no argument.
            signal.signal(signal.SIGTERM, before)
