"""The steps' side of versions: claim (load), work without a session, apply under a guard.

A step claims a version under a lease, works, and applies with the lease's token. 0 rows means the
lease is stale: somebody else moved the version or took it over, and the result is dropped.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from sqlalchemy import case, func, or_, select

from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry import moves
from serving.controller.registry.moves import Move, is_in_snapshot
from serving.controller.registry.probes import replace_probes
from serving.controller.registry.tables import GateReportRow, Json, NoiseFloorRow, VersionRow
from serving.controller.registry.transactions import MAX_KEYS, Sessions, Unit
from serving.controller.staleness import Proof

SETTABLE = frozenset(
    {"rank", "findings", "probe", "progress", "error", "gate_phase", "verdict", "released_at"}
)
"""Columns that a step may set through `apply`."""


class Work:
    """Leases and results of the controller's steps."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def claim_due(
        self,
        states: Collection[State],
        *,
        lease_seconds: float,
        owner: str,
        hurried: Collection[str] = (),
    ) -> VersionRow | None:
        """Lease the version in one of `states` that is due longest; None when none is due.

        Due: `next_attempt_at` is past or it is one of `hurried`, nobody holds an unexpired lease,
        not released.
        The row's `lock_token` is the key for `apply`.
        """

        async def work(unit: Unit) -> VersionRow | None:
            row = await unit.one(_due(states, unit.now, hurried).limit(1))
            if row is not None:
                row.lock_token, row.lock_owner = secrets.token_hex(16), owner
                row.lock_expires_at = unit.now + lease_seconds
            return row

        # A look without the write lock first: an idle fleet must not write.
        async with self._sessions.read() as session:
            seen = await session.execute(_due(states, self._sessions.clock(), hurried).limit(1))
            if seen.scalar_one_or_none() is None:
                return None
        return await self._sessions.write(work)

    async def next_due_at(self, states: Collection[State]) -> float | None:
        """When the next version in `states` becomes due (Unix seconds); None: never."""
        return min((await self.next_due(states)).values(), default=None)

    async def next_due(self, states: Collection[State]) -> dict[State, float]:
        """The same for each state; without those that have nothing to do."""
        free_at = case(
            (VersionRow.lock_expires_at > VersionRow.next_attempt_at, VersionRow.lock_expires_at),
            else_=VersionRow.next_attempt_at,
        )
        query = (
            select(VersionRow.state, func.min(free_at))
            .where(
                VersionRow.state.in_([state.value for state in states]),
                VersionRow.released_at.is_(None),
            )
            .group_by(VersionRow.state)
        )
        async with self._sessions.read() as session:
            return {State(row[0]): float(row[1]) for row in await session.execute(query)}

    async def renew(self, version_id: str, lock_token: str, *, lease_seconds: float) -> bool:
        """Hold the lease longer; False: it is stale."""

        async def change(unit: Unit, row: VersionRow) -> None:
            row.lock_expires_at = unit.now + lease_seconds

        return await self._guarded(version_id, lock_token, change)

    async def apply(
        self,
        version_id: str,
        lock_token: str,
        move: Move | None = None,
        *,
        keep_lease: bool = False,
        retry_after_seconds: float | None = None,
        **values: Any,
    ) -> bool:
        """Set `values` (see SETTABLE) and make `move`; False: the lease is stale, nothing is done.

        A move always ends the lease; without one it is given back unless `keep_lease`.
        `retry_after_seconds` puts the present step off and counts a try. RETIRE also clears the
        alias. SWITCH, the verdicts and PROMOTE have their own methods.

        Raises:
            IllegalTransition: the state does not allow the event.
        """
        unknown = values.keys() - SETTABLE
        if unknown:
            raise TypeError(f"not settable by a step: {sorted(unknown)}")

        async def change(unit: Unit, row: VersionRow) -> None:
            before = _held_content(row)
            if move is not None and move.event is Event.RETIRE:
                await moves.retire(unit, row, move)
            elif move is not None:
                moves.make_move(unit, row, move)
            for name, value in values.items():
                setattr(row, name, value)
            if retry_after_seconds is not None:
                row.attempts += 1
                row.next_attempt_at = unit.now + retry_after_seconds
            if not keep_lease:
                moves.unlock(row)
            if _held_content(row) != before:
                unit.bump()

        return await self._guarded(version_id, lock_token, change)

    async def conclude(
        self,
        version_id: str,
        lock_token: str,
        *,
        verdict: Verdict,
        report: Json,
        probe: Json | None = None,
        evidence: Json | None = None,
        proof: Proof | None = None,
        lenient_policy: Json | None = None,
    ) -> bool:
        """Write the gate's report and verdict and move on; with promote=auto, PASS goes to staging.

        `proof` is what the report proves; None: no engine answered. `lenient_policy` names the
        policy that lets INCONCLUSIVE go on like PASS. False: the lease is stale, nothing is
        written.
        """

        async def change(unit: Unit, row: VersionRow) -> None:
            await unit.session.merge(
                GateReportRow(
                    version_id=row.id,
                    attempt=row.attempt,
                    recheck=0,
                    created_at=unit.now,
                    report=report,
                    verdict=verdict.value,
                    engine_build=proof.engine_build if proof else None,
                    base_revision=proof.base_revision if proof else None,
                    dtype=proof.dtype if proof else None,
                )
            )
            replace_probes(row, proof, probe)
            row.recheck, row.recheck_at = None, None
            await moves.conclude(
                unit, row, verdict=verdict, evidence=evidence, lenient_policy=lenient_policy
            )

        return await self._guarded(version_id, lock_token, change)

    async def switch(
        self,
        version_id: str,
        lock_token: str,
        *,
        rollback_seconds: float,
        evidence: Json | None = None,
    ) -> bool:
        """Staging -> live: alias, old target, revision and audit at once. False: stale."""

        async def change(unit: Unit, row: VersionRow) -> None:
            move = Move(event=Event.SWITCH, evidence=evidence)
            await moves.switch(unit, row, move, rollback_seconds=rollback_seconds)

        return await self._guarded(version_id, lock_token, change)

    async def noise_floor(self, build: str, base_revision: str, dtype: str) -> Json | None:
        """The cached negative control, or None."""
        async with self._sessions.read() as session:
            row = await session.get(NoiseFloorRow, (build, base_revision, dtype))
        return None if row is None else row.floor

    async def save_noise_floor(
        self, build: str, base_revision: str, dtype: str, floor: Json
    ) -> None:
        """Cache the negative control of one engine build, base and number type."""

        async def work(unit: Unit) -> None:
            await unit.session.merge(
                NoiseFloorRow(
                    build=build,
                    base_revision=base_revision,
                    dtype=dtype,
                    floor=floor,
                    measured_at=unit.now,
                )
            )

        await self._sessions.write(work)

    async def _guarded(
        self,
        version_id: str,
        lock_token: str,
        change: Callable[[Unit, VersionRow], Awaitable[None]],
    ) -> bool:
        return await guarded(self._sessions, version_id, lock_token, change)


async def guarded(
    sessions: Sessions,
    version_id: str,
    lock_token: str,
    change: Callable[[Unit, VersionRow], Awaitable[None]],
) -> bool:
    """Make a change under a lease; False: the lease is stale, nothing is done."""

    async def work(unit: Unit) -> bool:
        row = await unit.session.get(VersionRow, version_id)
        if row is None or row.lock_token != lock_token:
            return False
        await change(unit, row)
        return True

    return await sessions.write(work)


def _due(states: Collection[State], now: float, hurried: Collection[str] = ()) -> Any:
    is_due = VersionRow.next_attempt_at <= now
    if hurried:
        is_due = or_(is_due, VersionRow.id.in_(list(hurried)[:MAX_KEYS]))
    return (
        select(VersionRow)
        .where(
            VersionRow.state.in_([state.value for state in states]),
            is_due,
            VersionRow.released_at.is_(None),
            or_(VersionRow.lock_token.is_(None), VersionRow.lock_expires_at <= now),
        )
        .order_by(VersionRow.next_attempt_at, VersionRow.id)
    )


def _held_content(row: VersionRow) -> tuple[Any, ...]:
    """What the snapshot says of this version."""
    if not is_in_snapshot(row):
        return ()
    return (row.state, row.gate_phase, row.rank, row.attempt, row.probe)
