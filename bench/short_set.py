"""Runs scenarios one after the other, each a process of its own, and says how each ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

_LOOK_SECONDS = 0.2
_STOP_SECONDS = 20.0
"""How long a scenario may take to end its engines after it was told to stop."""
_SHOWN_LINES = 12


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run ended. `outcome` completes "the scenario has ..."."""

    name: str
    outcome: str
    seconds: float
    log: Path

    @property
    def is_passed(self) -> bool:
        """Whether it ended by itself, and well."""
        return self.outcome == "passed"

    def tail(self) -> str:
        """The last lines that it said."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_SHOWN_LINES:])


def run_scenario(
    name: str,
    command: Sequence[str],
    *,
    log: Path,
    limit_seconds: float,
    on_look: Callable[[float, str], None] = lambda seconds, line: None,
) -> Ended:
    """Run one to its end, or to the limit; what it says goes to `log`.

    `on_look` gets the seconds so far and the last line that was said, some times a second.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    with log.open("wb") as said:
        # A session of its own, so that its engines can be told to stop with it.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            while process.poll() is None and time.monotonic() - begin < limit_seconds:
                on_look(time.monotonic() - begin, _last_line(log))
                time.sleep(_LOOK_SECONDS)
        finally:
            is_late = process.poll() is None
            if is_late:
                _stop(process)
    code = process.returncode
    outcome = "taken too long" if is_late else "failed" if code else "passed"
    return Ended(name, outcome, time.monotonic() - begin, log)


def quick_command(name: str) -> list[str]:
    """The short run of a scenario."""
    return [sys.executable, "-m", f"bench.scenarios.{name}", "--quick"]


def _stop(process: subprocess.Popen[bytes]) -> None:
    # Interrupted first: a scenario then ends its engines and removes its folders by itself.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        return


def _last_line(log: Path) -> str:
    with log.open("rb") as said:
        said.seek(max(0, log.stat().st_size - 4096))
        text = said.read().decode(errors="replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
