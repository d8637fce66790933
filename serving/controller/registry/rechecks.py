"""Re-checks: versions in service that are measured again, without a move.

They share the versions' lease, so that no other step works on a version meanwhile, and nothing else
with the steps: a superseded version's own clock (its rollback window) goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, exists, func, or_, select

from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry import moves
from serving.controller.registry.moves import Move
from serving.controller.registry.probes import keep_probe
from serving.controller.registry.tables import (
    AdapterRow,
    AliasRow,
    GateReportRow,
    Json,
    VersionRow,
)
from serving.controller.registry.transactions import Sessions, Unit
from serving.controller.registry.work import guarded
from serving.controller.staleness import Proof, StaleReason

IN_SERVICE = frozenset({State.LIVE, State.SUPERSEDED})
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS = 10.0, 3600.0
_AUDIT_ACTION = {
    Verdict.PASS: "recheck_passed",
    Verdict.FAIL: "recheck_failed",
    Verdict.INCONCLUSIVE: "recheck_inconclusive",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecheckResult:
    """What a re-check came to."""

    reason: StaleReason
    verdict: Verdict
    reasons: list[Json]
    report: Json
    probe: Json | None
    """The load probe of a PASS; None leaves the present one."""
    rollback_seconds: float | None
    """Set: a live version that FAILs gives way; how long it stays loaded then."""


class Rechecks:
    """Versions in service whose proof is out of date."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def proofs(self, version_id: str) -> list[Proof]:
        """What a version's reports prove, newest first."""
        query = (
            select(GateReportRow.engine_build, GateReportRow.base_revision, GateReportRow.dtype)
            .where(GateReportRow.version_id == version_id, is_proof())
            .order_by(GateReportRow.attempt.desc(), GateReportRow.recheck.desc())
        )
        async with self._sessions.read() as session:
            rows = (await session.execute(query)).all()
        return [Proof(str(build), str(base), str(dtype)) for build, base, dtype in rows]

    async def verdicts(self, version_id: str) -> dict[Proof, Verdict]:
        """The version's latest verdict on each kind that it was ever measured on."""
        query = (
            select(
                GateReportRow.engine_build,
                GateReportRow.base_revision,
                GateReportRow.dtype,
                GateReportRow.verdict,
            )
            .where(
                GateReportRow.version_id == version_id,
                is_proof(),
                GateReportRow.verdict.is_not(None),
            )
            .order_by(GateReportRow.attempt, GateReportRow.recheck)
        )
        async with self._sessions.read() as session:
            rows = (await session.execute(query)).all()
        return {
            Proof(str(build), str(base), str(dtype)): Verdict(str(verdict))
            for build, base, dtype, verdict in rows
        }

    async def due(
        self,
        running: Proof,
        *,
        states: Collection[State] = IN_SERVICE,
        limit: int = 200,
    ) -> list[str]:
        """Versions in `states` that were measured once, but never on `running`; live ones first."""
        now = self._sessions.clock()
        own = GateReportRow.version_id == VersionRow.id
        is_covered = and_(
            own,
            GateReportRow.engine_build == running.engine_build,
            GateReportRow.base_revision == running.base_revision,
            GateReportRow.dtype == running.dtype,
        )
        query = (
            select(VersionRow.id)
            .where(
                VersionRow.state.in_([state.value for state in states]),
                or_(VersionRow.recheck_at.is_(None), VersionRow.recheck_at <= now),
                or_(VersionRow.lock_token.is_(None), VersionRow.lock_expires_at <= now),
                exists().where(own, is_proof()),
                ~exists().where(is_covered),
            )
            .order_by(VersionRow.state, VersionRow.id)
            .limit(limit)
        )
        async with self._sessions.read() as session:
            return list((await session.execute(query)).scalars())

    async def claim(
        self, version_id: str, *, lease_seconds: float, owner: str
    ) -> VersionRow | None:
        """Lease a version for its re-check; None: it left service, or somebody works on it.

        One that is about to go live may be measured on another kind of engine before it does.
        """

        async def work(unit: Unit) -> VersionRow | None:
            row = await unit.session.get(VersionRow, version_id)
            if row is None or State(row.state) not in {*IN_SERVICE, State.STAGING}:
                return None
            if row.lock_token is not None and (row.lock_expires_at or 0.0) > unit.now:
                return None
            row.lock_token, row.lock_owner = secrets.token_hex(16), owner
            row.lock_expires_at = unit.now + lease_seconds
            return row

        return await self._sessions.write(work)

    async def put_off(self, version_id: str, lock_token: str, error: Json | None) -> bool:
        """Give the lease back and try later, longer after each try; False: the lease is stale.

        Without an error the re-check is simply not needed any more.
        """

        async def change(unit: Unit, row: VersionRow) -> None:
            moves.unlock(row)
            row.progress, row.recheck_at = None, None
            if error is not None:
                known = row.recheck or {}
                n_tries = int(known.get("n_tries", 0)) + 1
                pause = min(_FIRST_PAUSE_SECONDS * 2.0 ** min(n_tries - 1, 20), _LAST_PAUSE_SECONDS)
                row.recheck_at = unit.now + pause
                row.recheck = {**known, "n_tries": n_tries, "error": error}

        return await guarded(self._sessions, version_id, lock_token, change)

    async def conclude(self, version_id: str, lock_token: str, result: RecheckResult) -> bool:
        """Keep report, verdict and audit row; the state stays. False: the lease is stale.

        PASS renews the load probe. FAIL with `rollback_seconds` moves the alias of a live version
        back, where the previous one's own latest proof is no FAIL.
        """

        async def change(unit: Unit, row: VersionRow) -> None:
            number = await self._next_number(unit, row)
            unit.session.add(_report_row(unit, row, result, number=number))
            row.recheck_at, row.progress = None, None
            row.recheck = {
                "number": number,
                "at": unit.now,
                "verdict": result.verdict.value,
                "reason": result.reason.to_json(),
                "reasons": result.reasons,
                "n_tries": 0,
                "error": None,
            }
            if result.probe is not None and keep_probe(row, result.reason.now, result.probe):
                unit.bump()
            moves.unlock(row)
            evidence: Json = {
                "reason": result.reason.to_json(),
                "reasons": result.reasons,
                "report": {"attempt": row.attempt, "recheck": number},
            }
            unit.audit(
                _AUDIT_ACTION[result.verdict], row.id, actor="controller",
                tenant_id=row.tenant_id, evidence=evidence,
            )  # fmt: skip
            if result.verdict is Verdict.FAIL and result.rollback_seconds is not None:
                await _give_way(unit, row, rollback_seconds=result.rollback_seconds)

        return await guarded(self._sessions, version_id, lock_token, change)

    @staticmethod
    async def _next_number(unit: Unit, row: VersionRow) -> int:
        latest = select(func.max(GateReportRow.recheck)).where(
            GateReportRow.version_id == row.id, GateReportRow.attempt == row.attempt
        )
        return ((await unit.session.execute(latest)).scalar() or 0) + 1


def is_proof() -> Any:
    """Of a report: it says what it proves."""
    return and_(
        GateReportRow.engine_build.is_not(None),
        GateReportRow.base_revision.is_not(None),
        GateReportRow.dtype.is_not(None),
    )


def _report_row(
    unit: Unit, row: VersionRow, result: RecheckResult, *, number: int
) -> GateReportRow:
    # Of what was to be proven, even where no engine answered: that was looked at and is told.
    now = result.reason.now
    return GateReportRow(
        version_id=row.id,
        attempt=row.attempt,
        recheck=number,
        created_at=unit.now,
        report=result.report,
        verdict=result.verdict.value,
        engine_build=now.engine_build,
        base_revision=now.base_revision,
        dtype=now.dtype,
    )


async def _give_way(unit: Unit, row: VersionRow, *, rollback_seconds: float) -> None:
    adapter = await unit.session.get(AdapterRow, (row.tenant_id, row.adapter))
    alias = await unit.session.get(AliasRow, (row.tenant_id, row.adapter))
    if adapter is None or alias is None or alias.number != row.number:
        return
    problem = await _why_not_back(unit, alias)
    if problem is None:
        move = Move(event=Event.RESTORE, reason=f"{row.id} failed its re-check")
        await moves.roll_back(unit, adapter, move, rollback_seconds=rollback_seconds)
        return
    unit.audit(
        "hold", row.id, actor="controller", tenant_id=row.tenant_id,
        reason=f"it failed its re-check and stays live: {problem}",
    )  # fmt: skip


async def _why_not_back(unit: Unit, alias: AliasRow) -> str | None:
    if alias.previous_number is None:
        return "there is no previous version"
    key = moves.version_id(alias.tenant_id, alias.adapter, alias.previous_number)
    previous = await moves.fetch_version(unit, key)
    if previous.state != State.SUPERSEDED:
        return f"{key} is not loaded any more"
    if (previous.recheck or {}).get("verdict") == Verdict.FAIL:
        return f"{key} failed its own re-check"
    return None
