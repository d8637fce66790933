"""Keeps one engine at the desired state: pulls snapshots, runs plans, reports what it sees.

Three loops share one ledger: pull (waits for the controller), converge (starts the plan's actions,
at most a few at once, one per version), report. Deciding is `converge`'s, acting is `actions`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from serving.contract import EngineReport, FleetSnapshot, Role
from serving.engine.actions import Actions
from serving.engine.converge import (
    Action,
    Fetch,
    FollowAliases,
    ForgetArtifact,
    LocalState,
    Reprobe,
    plan,
)
from serving.engine.ledger import TRANSIENT
from serving.engine.link import ControllerUnreachable, Link
from serving.engine.reprobe import choose_reprobe
from serving.engine.snapshot_file import load_snapshot, save_snapshot

_log = structlog.get_logger(__name__)
_MAX_ACTIONS = 8
"""Actions at once. Fetches overlap, loads queue behind each other anyway; arbitrary."""
_LEAST_REPORT_PAUSE_SECONDS = 0.1
_REST_SECONDS = 1.0
"""Before an action that failed unexpectedly may be started again."""


class Agent:
    """One per engine; everything runs on the event loop that called `start`."""

    def __init__(
        self,
        actions: Actions,
        link: Link | None,
        *,
        fleet: str,
        snapshot_path: Path,
        poll_seconds: float,
        report_seconds: float,
        follow: Callable[[FleetSnapshot], None],
        make_report: Callable[[], EngineReport],
        is_draining: Callable[[], bool] = lambda: False,
        adapt: Callable[[FleetSnapshot], FleetSnapshot] = lambda snapshot: snapshot,
        engine_id: str = "",
        probe_seconds: float = 0.0,
    ) -> None:
        """`follow` switches the aliases; `link` None: no controller, the saved snapshot is all.

        While `is_draining` nothing new is started. `adapt` makes this engine's own reading of a
        snapshot; on disk it stays as it came.

        A proven version is probed again about every `probe_seconds`; 0: never.
        """
        self.snapshot: FleetSnapshot | None = None
        self.followed_revision = -1
        self.is_settled = False
        """Every serving version of a snapshot has been tried once since the start."""
        self._actions, self._link, self._ledger = actions, link, actions.ledger
        self._fleet, self._snapshot_path = fleet, snapshot_path
        self._poll_seconds, self._report_seconds = poll_seconds, report_seconds
        self._follow, self._make_report = follow, make_report
        self._is_draining, self._adapt = is_draining, adapt
        self._engine_id, self._probe_seconds = engine_id, probe_seconds
        self._has_asked = link is None
        self._running: dict[str, asyncio.Task[None]] = {}
        self._loops: list[asyncio.Task[None]] = []
        self._wake, self._report_wake = asyncio.Event(), asyncio.Event()

    def start(self) -> None:
        """Take over the saved snapshot and start the loops."""
        saved = load_snapshot(self._snapshot_path)
        if saved is not None and saved.fleet == self._fleet:
            self.snapshot = self._adapt(saved)
        loops = [self._converge_forever()]
        if self._link is not None:
            loops += [self._pull_forever(self._link), self._report_forever(self._link)]
        self._loops = [asyncio.create_task(loop) for loop in loops]

    async def stop(self) -> None:
        """End loops and actions."""
        tasks = [*self._loops, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    def hint(self) -> None:
        """Something changed: look again now."""
        self._wake.set()
        self._report_wake.set()

    async def accept(self, snapshot: FleetSnapshot) -> bool:
        """Take over a snapshot: on disk first, so that a crash can't lose what was followed.

        False: it is of another fleet, or not newer.
        """
        if snapshot.fleet != self._fleet:
            _log.error("snapshot of another fleet refused", found=snapshot.fleet, ours=self._fleet)
            return False
        if self.snapshot is not None and snapshot.revision <= self.snapshot.revision:
            return False
        await asyncio.to_thread(save_snapshot, self._snapshot_path, snapshot)
        self.snapshot = self._adapt(snapshot)
        self.hint()
        return True

    async def _pull_forever(self, link: Link) -> None:
        n_failures = 0
        while True:
            after = -1 if self.snapshot is None else self.snapshot.revision
            # The first question must not wait: readiness depends on its answer.
            wait = self._poll_seconds if self._has_asked else 0.0
            try:
                snapshot = await link.pull(after=after, wait_seconds=wait)
                # What is of no use would be sent again at once.
                is_good = snapshot is None or await self.accept(snapshot)
                n_failures = 0 if is_good else n_failures + 1
            except ControllerUnreachable as exc:
                n_failures += 1
                _log.warning("controller is unreachable", reason=str(exc), failures=n_failures)
            except Exception:  # noqa: BLE001 - the loop must outlive any one turn
                n_failures += 1
                _log.exception("a snapshot could not be taken over")
            if not self._has_asked:
                self._has_asked = True
                self.hint()
            if n_failures:
                await asyncio.sleep(TRANSIENT.pause(n_failures))

    async def _report_forever(self, link: Link) -> None:
        while True:
            self._report_wake.clear()
            try:
                await link.report(self._make_report())
            except ControllerUnreachable as exc:
                _log.debug("report was not taken", reason=str(exc))
            except Exception:  # noqa: BLE001 - the loop must outlive any one turn
                _log.exception("a report could not be made")
            await asyncio.sleep(_LEAST_REPORT_PAUSE_SECONDS)
            await _wait(self._report_wake, self._report_seconds)

    async def _converge_forever(self) -> None:
        while True:
            self._wake.clear()
            before = self._ledger.n_changes
            try:
                self.converge_once()
                self.reprobe_once()
                await self._note_observation()
            except Exception:  # noqa: BLE001 - the loop must outlive any one turn
                _log.exception("a convergence step failed")
            if self._ledger.n_changes != before:
                self._report_wake.set()
            await _wait(self._wake, self._pause())

    async def _note_observation(self) -> None:
        for name in await self._actions.observe():
            _log.error("adapter makes non-finite values and is quarantined", name=name)
            self._wake.set()

    def converge_once(self) -> None:
        """Plan, and start what may start; nothing while the engine drains."""
        if self.snapshot is None or self._is_draining():
            return
        for action in plan(self.snapshot, self.observed(), self._actions.now()):
            if isinstance(action, FollowAliases):
                self._switch(self.snapshot)
            elif len(self._running) < _MAX_ACTIONS and _key(action) not in self._running:
                self._start(action, self.snapshot)
        if not self.is_settled and self._has_asked:
            serving = [e.name for e in self.snapshot.versions if e.role is Role.SERVING]
            self.is_settled = all(self._ledger.was_tried(name) for name in serving)
            if self.is_settled:
                self._report_wake.set()

    def reprobe_once(self) -> None:
        """Start the probe that is overdue longest, while nothing else is to be done."""
        if self.snapshot is None or self._is_draining() or self._running or not self.is_settled:
            return
        name = choose_reprobe(
            self._ledger.proven(),
            resident=frozenset(self._actions.resident),
            engine_id=self._engine_id,
            interval_seconds=self._probe_seconds,
            now=self._actions.now(),
        )
        if name is not None and any(entry.name == name for entry in self.snapshot.versions):
            self._start(Reprobe(name), self.snapshot)

    def observed(self) -> LocalState:
        """What `plan` is told of this engine."""
        artifacts = self._actions.artifacts
        return LocalState(
            followed_revision=self.followed_revision,
            verified=artifacts.verified,
            on_disk=artifacts.on_disk,
            versions=self._ledger.versions(self._actions.in_flight),
        )

    def _switch(self, snapshot: FleetSnapshot) -> None:
        self._ledger.follow(snapshot)
        self._follow(snapshot)
        self.followed_revision = snapshot.revision
        self._report_wake.set()

    def _start(self, action: Action, snapshot: FleetSnapshot) -> None:
        key = _key(action)
        task = asyncio.create_task(self._actions.run(action, snapshot), name=key)
        self._running[key] = task
        task.add_done_callback(lambda done: self._finished(key, done))

    def _finished(self, key: str, task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            self._release(key)
            return
        # Its outcome is not in the ledger, so that the next plan would start it again at once.
        _log.error("an action failed", action=key, exc_info=error)
        asyncio.get_running_loop().call_later(_REST_SECONDS, self._release, key)

    def _release(self, key: str) -> None:
        self._running.pop(key, None)
        self.hint()

    def _pause(self) -> float:
        retry_at = self._ledger.next_retry()
        if retry_at is None or (due_in := retry_at - self._actions.now()) <= 0:
            return self._report_seconds
        return min(due_in, self._report_seconds)


def _key(action: Action) -> str:
    """Actions with one key never run at once."""
    if isinstance(action, Fetch | ForgetArtifact):
        return action.digest
    return "" if isinstance(action, FollowAliases) else action.name


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
