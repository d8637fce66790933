"""The loop: finds versions that are due and runs their step. Level triggered.

What is due is read from the registry, so a lost hint or a killed controller costs a moment, never a
version. Each lane has workers of its own: a long evaluation never holds up a switch. The only place
of this process that catches every exception, because one broken version must not stop the others.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from adapters.parity.reference_client import ReferenceClient
from serving.controller.context import ControllerContext
from serving.controller.due_look import DueLook
from serving.controller.errors import Deposed, RegistryUnavailable
from serving.controller.lifecycle import State
from serving.controller.news_waits import NewsWaits
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.context import StepContext
from serving.controller.steps.evaluate import evaluate
from serving.controller.steps.lease import Lease
from serving.controller.steps.metrics import StepMetrics
from serving.controller.steps.outcome import Done, Outcome, Retry, Terminal
from serving.controller.steps.recheck import claim_recheck, recheck
from serving.controller.steps.retire import retire
from serving.controller.steps.stage import stage
from serving.controller.steps.validate import validate

LEASE_SECONDS = 30.0
"""After so long without renewal another controller takes a version over."""
_IDLE_SECONDS = 5.0
_TERMINAL_SECONDS = 3600.0
_BACKOFF_SECONDS_MAX = 60.0

log = structlog.get_logger()

Step = Callable[[StepContext, VersionRow, Lease], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Lane:
    """Versions in these states go through this step, `width` at a time.

    Without states: versions in service whose proof is out of date (`steps.recheck`).
    """

    name: str
    states: tuple[State, ...]
    step: Step
    width: int
    rest_seconds: float = 0.0
    """After a look that found nothing, whoever calls: where looking costs more than a query."""
    waits_for_engines: bool = False
    """A step that is put off is tried again as soon as an engine has said something new."""


LANES = (
    Lane("validate", (State.VALIDATING,), validate, width=2),
    # One reference process, so one evaluation at a time.
    Lane("evaluate", (State.EVALUATING,), evaluate, width=1),
    Lane("stage", (State.STAGING,), stage, width=4, waits_for_engines=True),
    Lane("retire", (State.SUPERSEDED, State.RETIRED), retire, width=1),
    # It looks at every engine's every version; nobody waits for it.
    Lane("recheck", (), recheck, width=1, rest_seconds=0.5),
)


class ControllerLoop:
    """Runs the steps of one controller process; several controllers may run at once."""

    def __init__(
        self,
        context: ControllerContext,
        *,
        reference: ReferenceClient | None = None,
        metrics: StepMetrics | None = None,
        lanes: tuple[Lane, ...] = LANES,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Nothing runs yet. The loop owns the reference process and ends it with itself.

        `metrics`: those of an earlier loop of this process; by default they are made here.
        """
        reference = reference or ReferenceClient(
            device=context.settings.reference_device,
            idle_seconds=context.settings.reference_idle_seconds,
            timeout_seconds=context.settings.gate_timeout_seconds,
        )
        self._context = StepContext.of(context, reference=reference, metrics=metrics)
        self._lanes, self._lease_seconds = lanes, lease_seconds
        self._owner = f"{socket.gethostname()}:{os.getpid()}"
        self._wake = [asyncio.Event() for lane in lanes for _ in range(lane.width)]
        states = {state for lane in lanes for state in lane.states}
        self._look = DueLook(self._context.repository.work, states)
        reports = self._context.repository.fleet.reports
        self._waits = NewsWaits(lambda: reports.n_news, self._context.clock)

    def hint(self) -> None:
        """Something changed: look now. Nothing is lost without it."""
        self._look.changed()
        for event in self._wake:
            event.set()

    async def run(self) -> None:
        """Work until cancelled; steps under way end too, and are found again after a restart.

        Raises:
            ExceptionGroup of Deposed: another controller leads by now; nothing was written since.
        """
        wakes = iter(self._wake)
        try:
            async with asyncio.TaskGroup() as group:
                for lane in self._lanes:
                    for _ in range(lane.width):
                        group.create_task(self._serve(lane, next(wakes)))
        finally:
            await self._context.reference.close()

    async def turn(self, lane: Lane) -> bool:
        """Run one due version's step; False: none is due.

        Raises:
            RegistryUnavailable: the registry did not answer.
            Deposed: another controller leads by now.
        """
        row = await self._claim(lane)
        if row is None:
            return False
        n_news = self._waits.n_news
        lease = Lease(self._context.repository.work, row, lease_seconds=self._lease_seconds)
        outcome = await self._run_step(lane, row, lease)
        pause = await self._record(lane, row, lease, outcome)
        if lane.waits_for_engines and pause is not None:
            self._waits.wait(row.id, n_news=n_news, pause_seconds=pause)
        return True

    async def _claim(self, lane: Lane) -> VersionRow | None:
        if not lane.states:
            return await claim_recheck(
                self._context, owner=self._owner, lease_seconds=self._lease_seconds
            )
        hurried = self._waits.take() if lane.waits_for_engines else {}
        row = await self._context.repository.work.claim_due(
            lane.states, lease_seconds=self._lease_seconds, owner=self._owner, hurried=hurried
        )
        if row is not None:
            self._waits.put_back(hurried, but_for=row.id)
        return row

    async def _serve(self, lane: Lane, wake: asyncio.Event) -> None:
        while True:
            wake.clear()
            try:
                if await self._is_due(lane) and await self.turn(lane):
                    # Another lane may be due now.
                    self.hint()
                    continue
                pause = await self._pause(lane)
            except RegistryUnavailable as exc:
                log.warning("registry unavailable", lane=lane.name, reason=exc.fields["reason"])
                pause = _IDLE_SECONDS
            await asyncio.sleep(lane.rest_seconds)
            try:
                async with asyncio.timeout(pause):
                    await wake.wait()
            except TimeoutError:
                # Other processes change the registry, too, and tell nobody.
                self._look.changed()

    async def _is_due(self, lane: Lane) -> bool:
        """Whether a claim may find something; a claim that finds nothing costs more."""
        if not lane.states or (lane.waits_for_engines and self._waits.is_ready()):
            return True
        due_at = await self._look.due_at(lane.states)
        return due_at is not None and due_at <= self._context.clock()

    async def _pause(self, lane: Lane) -> float:
        due_at = await self._look.due_at(lane.states)
        hurried_at = self._waits.next_at() if lane.waits_for_engines else None
        due_at = min((at for at in (due_at, hurried_at) if at is not None), default=None)
        if due_at is None:
            return _IDLE_SECONDS
        # A version whose lease another worker holds looks due: don't spin on it.
        return min(max(due_at - self._context.clock(), 0.05), _IDLE_SECONDS)

    async def _run_step(self, lane: Lane, row: VersionRow, lease: Lease) -> Outcome:
        work = asyncio.ensure_future(lane.step(self._context, row, lease))
        keeper = asyncio.create_task(lease.keep())
        try:
            await asyncio.wait({work, keeper}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return await self._outcome(lane, row, work)
            # The lease is stale: somebody else moved the version, so this result is not wanted.
            log.info("lease lost", step=lane.name, version=row.id)
            return Done()
        finally:
            work.cancel()
            keeper.cancel()
            await asyncio.gather(work, keeper, return_exceptions=True)

    async def _outcome(self, lane: Lane, row: VersionRow, work: asyncio.Future[Outcome]) -> Outcome:
        try:
            return await work
        except (RegistryUnavailable, Deposed):
            raise
        except Exception as exc:
            self._context.metrics.failures.labels(lane.name).inc()
            log.exception("step failed", step=lane.name, version=row.id, tries=row.attempts)
            return Retry("internal_error", detail={"error": type(exc).__name__})

    async def _record(
        self, lane: Lane, row: VersionRow, lease: Lease, outcome: Outcome
    ) -> float | None:
        """Write what became of a step; returns the pause before its next try, None: it is done."""
        match outcome:
            case Done():
                return None
            case Retry(code, after_seconds, detail):
                pause = backoff_seconds(row.attempts) if after_seconds is None else after_seconds
                error = {"step": lane.name, "code": code, **detail}
            case Terminal(code, detail):
                pause = _TERMINAL_SECONDS
                error = {"step": lane.name, "code": code, "terminal": True, **detail}
                log.warning("step cannot go on", step=lane.name, version=row.id, code=code)
        if not lane.states:
            # A version in service has clocks of its own that this must not touch.
            await self._context.repository.rechecks.put_off(row.id, lease.token, error)
            return None
        await lease.apply(retry_after_seconds=pause, error=error)
        return pause


def backoff_seconds(tries: int) -> float:
    """Pause before the next try: 1, 2, 4 ... seconds, at most a minute."""
    return float(min(2.0 ** min(tries, 10), _BACKOFF_SECONDS_MAX))
