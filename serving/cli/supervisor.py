"""Keeps child processes running: start, restart with backoff, readiness, orderly stop.

It knows processes, not what they serve; `serving.cli.all_in_one` says which children there are.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.cli.guard import KILL_NOW

_TICK_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One process to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    """Added to the supervisor's own."""
    stop_order: int = 0
    """Lower ones are stopped, and over, before higher ones are asked to stop."""
    stop_seconds: float = 60.0
    """How long it may take to end after SIGTERM, before SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pause before a restart: doubles from `first` to `longest`, all in seconds."""

    first: float = 1.0
    longest: float = 30.0
    healthy_after: float = 60.0
    """A life of at least so long starts the count anew."""

    def pause(self, n_failures: int) -> float:
        """Pause after the n-th short life in a row, n from 1."""
        return float(min(self.longest, self.first * 2 ** min(n_failures - 1, 16)))


@dataclass(slots=True)
class _Child:
    spec: ChildSpec
    process: asyncio.subprocess.Process | None = None
    n_restarts: int = 0
    spawning: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a process comes to be, so that a stop never misses one."""


@dataclass(slots=True)
class Supervisor:
    """Runs children until it is told to stop; `data_dir` gets `logs/` and `run/NAME.pid`."""

    specs: Sequence[ChildSpec]
    data_dir: Path
    say: Callable[[str], None]
    backoff: Backoff = field(default_factory=Backoff)
    _children: list[_Child] = field(init=False, default_factory=list)
    _stopping: asyncio.Event = field(init=False, default_factory=asyncio.Event)

    async def run(self, when_up: Callable[[], Awaitable[None]] | None = None) -> None:
        """Start every child, keep them running, and return when all have ended after `stop`.

        `when_up` runs beside them once, and is cancelled by a stop.
        """
        for folder in ("logs", "run"):
            (self.data_dir / folder).mkdir(parents=True, exist_ok=True)
        self._children = [_Child(spec) for spec in self.specs]
        keepers = [asyncio.create_task(self._keep(child)) for child in self._children]
        announce = asyncio.ensure_future(when_up()) if when_up else None
        try:
            await self._stopping.wait()
        finally:
            if announce is not None:
                announce.cancel()
                await asyncio.gather(announce, return_exceptions=True)
            await self._stop_all()
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)

    def stop(self) -> None:
        """Ask for an orderly stop; a second call changes nothing."""
        self._stopping.set()

    def stop_on_signals(self) -> None:
        """SIGINT and SIGTERM ask for an orderly stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)

    def n_restarts(self, name: str) -> int:
        """How often a child was started again."""
        return next(child.n_restarts for child in self._children if child.spec.name == name)

    async def _keep(self, child: _Child) -> None:
        n_failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            async with child.spawning:
                if self._stopping.is_set():
                    return
                child.process = process = await self._spawn(child.spec)
            code = await process.wait()
            if self._stopping.is_set():
                return
            lived = time.monotonic() - started
            n_failures = 1 if lived >= self.backoff.healthy_after else n_failures + 1
            pause = self.backoff.pause(n_failures)
            self.say(
                f"{child.spec.name} ended with code {code} after {lived:.0f} s; "
                f"restart in {pause:.0f} s (see {self._log_path(child.spec)})"
            )
            child.n_restarts += 1
            await asyncio.sleep(pause)

    async def _spawn(self, spec: ChildSpec) -> asyncio.subprocess.Process:
        pid_file = self.data_dir / "run" / f"{spec.name}.pid"
        with self._log_path(spec).open("ab") as log:
            # A session of its own: a Ctrl-C in the terminal reaches the supervisor alone, which
            # then stops the children in order. The pipe to stdin is the guard's life line.
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "serving.cli.guard", str(pid_file), "--", *spec.command,
                stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
                env={**os.environ, **spec.environment}, start_new_session=True,
            )  # fmt: skip

    async def _stop_all(self) -> None:
        for order in sorted({child.spec.stop_order for child in self._children}):
            group = [child for child in self._children if child.spec.stop_order == order]
            await asyncio.gather(*(self._stop_one(child) for child in group))

    async def _stop_one(self, child: _Child) -> None:
        async with child.spawning:
            process = child.process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), child.spec.stop_seconds)
        except TimeoutError:
            self.say(f"{child.spec.name} did not end in {child.spec.stop_seconds:.0f} s: killed")
            process.send_signal(KILL_NOW)
            await process.wait()

    def _log_path(self, spec: ChildSpec) -> Path:
        return self.data_dir / "logs" / f"{spec.name}.log"


async def wait_until(check: Callable[[], Awaitable[bool]]) -> None:
    """Return once `check` says True; asks a few times a second."""
    # The thing to wait for is in another process, so there is no event to wait on.
    while not await check():  # noqa: ASYNC110
        await asyncio.sleep(_TICK_SECONDS)
