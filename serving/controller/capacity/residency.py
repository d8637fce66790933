"""Computes which adapters each engine shall keep, one controller process at a time.

What an engine does not tell is not guessed: while its trace is not read, or far behind, it keeps
the wishes that it has.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass

import structlog

from serving.capacity.residency import ResidencyState, choose_companions, choose_hot
from serving.contract import EngineReport, EngineWishes
from serving.controller.capacity.board import CapacityBoard
from serving.controller.capacity.models import CapacityModels
from serving.controller.context import ControllerContext
from serving.controller.lifecycle import SERVING_STATES

RESIDENCY_SECONDS = 10.0
"""Pause between two choices."""
LEASE_SECONDS = 30.0
"""After so long without a choice another controller process takes over."""
WINDOW_SECONDS = 300.0
"""Over which rates are counted."""
COMPANIONS_DWELL_SECONDS = 300.0
"""Companions stay at least so long: each change is a new snapshot for every engine."""
MAX_LAG_EVENTS = 50_000
"""Events that a trace may be behind before its rates are called old."""

log = structlog.get_logger()


@dataclass(slots=True)
class _Kept:
    state: ResidencyState
    companions: dict[str, list[str]]
    companions_at: float | None = None


class ResidencyKeeper:
    """Turns the observer's rates into wishes."""

    def __init__(self, context: ControllerContext, board: CapacityBoard) -> None:
        """Nothing is chosen yet; a first turn begins with the wishes that the registry has."""
        self._context, self._board = context, board
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._kept: dict[str, _Kept] = {}

    async def turn(self) -> None:
        """Choose once for every engine that can be judged.

        Raises:
            RegistryUnavailable: the registry did not answer.
        """
        registry = self._context.repository.residency
        present = await self._board.residency()
        if present.mode == "off":
            self._kept.clear()
            if present.wishes:
                await registry.clear_wishes()
            return
        if not await registry.claim(self._owner, lease_seconds=LEASE_SECONDS):
            self._kept.clear()
            return
        wishes = await self._choose(await registry.wishes())
        if await registry.put_wishes(self._owner, wishes):
            log.info("residency changed", hot={name: len(w.hot) for name, w in wishes.items()})

    async def _choose(self, before: dict[str, EngineWishes]) -> dict[str, EngineWishes]:
        served = frozenset(
            version.name
            for version in await self._board.versions()
            if version.state in SERVING_STATES
        )
        reports = [r for r in await self._board.reports() if self._can_be_judged(r.engine_id)]
        self._kept = {r.engine_id: self._known(r.engine_id, before) for r in reports}
        now = self._context.clock()
        return await self._board.observer.ask(
            lambda models: {
                report.engine_id: _wishes(
                    models, report, self._kept[report.engine_id], served=served, now=now
                )
                for report in reports
            }
        )

    def _can_be_judged(self, engine: str) -> bool:
        cursor = self._board.observer.cursors.get(engine)
        return (
            cursor is not None
            and cursor.has_read
            and cursor.error is None
            and cursor.lag_events <= MAX_LAG_EVENTS
        )

    def _known(self, engine: str, before: dict[str, EngineWishes]) -> _Kept:
        if engine in self._kept:
            return self._kept[engine]
        wish = before.get(engine, EngineWishes(engine=engine))
        return _Kept(ResidencyState(hot=tuple(wish.hot)), dict(wish.companions))


def _wishes(
    models: CapacityModels,
    report: EngineReport,
    kept: _Kept,
    *,
    served: frozenset[str],
    now: float,
) -> EngineWishes:
    model = models.engine(report.engine_id)
    if model is None:
        return EngineWishes(report.engine_id, list(kept.state.hot), kept.companions)
    # With what is not served any more: those requests did compete for the slots.
    choice = choose_hot(
        kept.state,
        model.traffic.rates(WINDOW_SECONDS, now),
        gpu_slots=report.gpu_slots,
        now=now,
        window_seconds=WINDOW_SECONDS,
    )
    kept.state = choice.state
    if kept.companions_at is None or now - kept.companions_at >= COMPANIONS_DWELL_SECONDS:
        chosen = {
            tenant: left
            for tenant, names in choose_companions(model.bursts).items()
            if len(left := [name for name in names if name in served]) > 1
        }
        if chosen != kept.companions:
            kept.companions, kept.companions_at = chosen, now
    hot = [name for name in choice.hot if name in served]
    return EngineWishes(report.engine_id, hot, kept.companions)
