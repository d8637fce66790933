"""Leases: a version that answers a request is in CPU memory from its admission to its last byte.

So vLLM never reads from disk inside a step. This is the only caller of the engine's `prefetch` and
`remove`, one load at a time, and it chooses every victim itself; its mirror is therefore exact.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from serving.engine.ports import EnginePort, LoadOutcome

_ROOM_POLL_SECONDS = 0.05
"""The engine's own requests may end after their lease does, and tell nobody."""

_WARM_BYTES = 1 << 20


class AdmissionTimeout(Exception):
    """The version could not be brought into memory in time."""


class Lease:
    """Keeps one version in CPU memory until `release`, which may be called more than once."""

    __slots__ = ("_admission", "_is_use", "name")

    def __init__(self, admission: Admission, name: str, *, is_use: bool = True) -> None:
        self.name, self._is_use = name, is_use
        self._admission: Admission | None = admission

    def release(self) -> None:
        """End the lease."""
        admission, self._admission = self._admission, None
        if admission is not None:
            # One mechanism in two classes.
            admission._end(self.name, is_use=self._is_use)  # noqa: SLF001


class Admission:
    """Who may be in CPU memory. A name with a claim (held or waited for) is never evicted."""

    def __init__(
        self,
        port: EnginePort,
        *,
        cpu_slots: int,
        path_of: Callable[[str], str],
        importance_of: Callable[[str], int],
        on_read: Callable[[str], None] = lambda _name: None,
        is_hot: Callable[[str], bool] = lambda _name: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`path_of`: a name's folder. `importance_of`: 0 for candidates, 2 for alias targets.

        `is_hot`: evicted only when nothing else could be. `on_read` hears of each version whose
        bytes were read from disk.
        """
        self._port = port
        self._cpu_slots = cpu_slots
        self._path_of, self._importance_of, self._on_read = path_of, importance_of, on_read
        self._is_hot, self._clock = is_hot, clock
        self._used_at: dict[str, float] = {}
        self._resident: OrderedDict[str, None] = OrderedDict()
        self._claims: dict[str, int] = {}
        self._loads: dict[str, asyncio.Task[None]] = {}
        self._one_load = asyncio.Lock()
        self._room_changed = asyncio.Event()

    def claims(self, name: str) -> int:
        """Requests that hold or wait for a lease on this version."""
        return self._claims.get(name, 0)

    @property
    def leased(self) -> frozenset[str]:
        """Names in memory that somebody holds a lease on; never more than `cpu_slots`."""
        return frozenset(name for name in self._claims if name in self._resident)

    @property
    def resident(self) -> tuple[str, ...]:
        """Names in CPU memory, least recently used first."""
        return tuple(self._resident)

    def lease_resident(self, name: str) -> Lease | None:
        """A lease at once, when the version is in memory; the usual case."""
        if name not in self._resident:
            return None
        self._resident.move_to_end(name)
        self._used_at[name] = self._clock()
        self._claim(name)
        return Lease(self, name)

    def lease_quietly(self, name: str) -> Lease | None:
        """As `lease_resident`, for a look that is no use: the order of eviction stays."""
        if name not in self._resident:
            return None
        self._claim(name)
        return Lease(self, name, is_use=False)

    async def lease(self, name: str, *, wait_seconds: float) -> Lease:
        """A lease, after loading the version if need be; loads of one version are one load.

        Loads are served in the order of their asking. One that takes longer than `wait_seconds`
        goes on for those who ask next.

        Raises:
            AdmissionTimeout: not in memory within `wait_seconds`.
            LoadRefused, EngineBusy, EngineUnavailable: as `EnginePort.prefetch`.
        """
        lease = self.lease_resident(name)
        if lease is not None:
            return lease
        self._claim(name)
        lease = Lease(self, name)
        try:
            async with asyncio.timeout(wait_seconds):
                while name not in self._resident:
                    await asyncio.shield(self._load_of(name))
        except TimeoutError as exc:
            lease.release()
            raise AdmissionTimeout(name) from exc
        except BaseException:
            lease.release()
            raise
        return lease

    async def remove(self, name: str, *, is_forgotten: bool = True) -> None:
        """Take an unclaimed version out of the engine; the caller lets nobody ask for it.

        `is_forgotten`: its counts end too.

        Raises:
            EngineUnavailable: the engine did not answer; the version still counts as in memory.
        """
        was_resident = name in self._resident
        self._resident.pop(name, None)
        self._used_at.pop(name, None)
        try:
            await self._port.remove(name, is_forgotten=is_forgotten)
        except BaseException:
            if was_resident:
                self._restore(name)
            raise
        self._room_changed.set()

    async def prefetch(self, name: str, *, victim_idle_seconds: float) -> bool:
        """Bring a version into memory that nobody waits for; False where that is not worth a place.

        It takes a free place, or one of an idle version that is not hot and that nobody used for
        `victim_idle_seconds`. The slow part, reading the disk, is done before the loads' turn is
        taken, and loads that somebody waits for go first; one that is asked for after that waits
        until this one's bytes are parsed.

        Raises:
            LoadRefused, EngineBusy, EngineUnavailable: as `EnginePort.prefetch`.
        """
        await asyncio.to_thread(_warm, Path(self._path_of(name)))
        while self._loads:
            await asyncio.wait(list(self._loads.values()))
        async with self._one_load:
            victim = None
            if name in self._resident:
                return False
            if len(self._resident) >= self._cpu_slots:
                before = self._clock() - victim_idle_seconds
                forgotten = (
                    idle
                    for idle in self._idle()
                    if not self._is_hot(idle) and self._used_at.get(idle, before) <= before
                )
                victim = next(forgotten, None)
                if victim is None:
                    return False
            self._claim(name)  # So that nobody removes it meanwhile.
            try:
                await self._bring_in(name, victim)
            finally:
                self._end(name, is_use=False)
        return True

    async def stop(self) -> None:
        """End loads that still run."""
        tasks = list(self._loads.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _claim(self, name: str) -> None:
        self._claims[name] = self._claims.get(name, 0) + 1

    def _end(self, name: str, *, is_use: bool) -> None:
        n_left = self._claims[name] - 1
        if n_left:
            self._claims[name] = n_left
        else:
            del self._claims[name]
        if is_use and name in self._resident:
            self._resident.move_to_end(name)
            self._used_at[name] = self._clock()
        if self._loads:  # Else nobody waits for room.
            self._room_changed.set()

    def _load_of(self, name: str) -> asyncio.Task[None]:
        task = self._loads.get(name)
        if task is None:
            task = asyncio.create_task(self._load(name), name=f"load {name}")
            self._loads[name] = task
            task.add_done_callback(lambda done: self._forget_load(name, done))
        return task

    def _forget_load(self, name: str, task: asyncio.Task[None]) -> None:
        self._loads.pop(name, None)
        if not task.cancelled():
            task.exception()  # Read, so that a load nobody waits for any more is not reported.

    async def _load(self, name: str) -> None:
        async with self._one_load:
            if name in self._resident or not await self._has_room(name):
                return
            await self._bring_in(name, self._choose_victim(name))

    async def _bring_in(self, name: str, victim: str | None) -> None:
        if victim is not None:
            del self._resident[victim]
        try:
            # All but the victim are protected: who gets a lease on one of them from here on is
            # safe, and who asks for the victim waits for a load of its own.
            outcome = await self._port.prefetch(
                name, self._path_of(name), frozenset(self._resident)
            )
        except BaseException:
            if victim is not None:
                self._restore(victim)
            raise
        self._apply(name, victim, outcome)

    def _apply(self, name: str, victim: str | None, outcome: LoadOutcome) -> None:
        for evicted in outcome.evicted:
            self._resident.pop(evicted, None)
            self._used_at.pop(evicted, None)
        if victim is not None and victim not in outcome.evicted:
            self._restore(victim)
        self._resident[name] = None
        self._resident.move_to_end(name)
        self._used_at[name] = self._clock()
        if outcome.source == "disk":
            self._on_read(name)

    def _restore(self, name: str) -> None:
        self._resident[name] = None
        self._resident.move_to_end(name, last=False)

    async def _has_room(self, name: str) -> bool:
        """Wait until there is a free place or a victim; false when nobody wants `name` any more."""
        while name in self._claims:
            if len(self._resident) < self._cpu_slots or self._choose_victim(name) is not None:
                return True
            self._room_changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_ROOM_POLL_SECONDS):
                    await self._room_changed.wait()
        return False

    def _choose_victim(self, loading: str) -> str | None:
        """Least recently used of those without claim; a candidate spares what is more important."""
        if len(self._resident) < self._cpu_slots:
            return None
        idle = self._idle()
        idle = [name for name in idle if not self._is_hot(name)] or idle
        if idle and self._importance_of(loading) == 0:
            return min(idle, key=self._importance_of)
        return idle[0] if idle else None

    def _idle(self) -> list[str]:
        return [
            name
            for name in self._resident
            if name not in self._claims and not self._port.in_flight(name)
        ]


def _warm(folder: Path) -> None:
    """Have the system read a folder's files into its page cache; what fails here fails there."""
    with suppress(OSError):
        for file in folder.iterdir():
            with file.open("rb", buffering=0) as opened:
                while opened.read(_WARM_BYTES):
                    pass
