"""What the guard does with processes that its child has left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.cli import guard

NOBODY = 2**22 + 1
"""Above the largest process id of Linux."""
STUBBORN = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def test_what_is_still_there_after_it_was_killed_holds_nobody_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard, "_LEFTOVER_SECONDS", 0.05)
    monkeypatch.setattr(guard, "_DYING_SECONDS", 0.05)
    monkeypatch.setattr(guard, "descendants", lambda _pid: [NOBODY])

    # Without an end to its patience this would not return.
    guard._end_leftovers()


def test_what_ignores_the_request_to_end_is_killed_with_its_parent_gone(tmp_path: Path) -> None:
    left = tmp_path / "left"
    child = (
        "import pathlib, subprocess, sys;"
        f"one = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]);"
        f"pathlib.Path({str(left)!r}).write_text(str(one.pid))"
    )
    command = [sys.executable, "-m", "serving.cli.guard", str(tmp_path / "pid"), "--"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", child], stdin=subprocess.PIPE
    ) as guarding:
        assert guarding.wait(60) == 0

    deadline = time.monotonic() + 30
    while Path(f"/proc/{left.read_text()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(int(left.read_text()), 0)
