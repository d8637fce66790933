"""The processes that one started process has become: their memory, and their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")


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
