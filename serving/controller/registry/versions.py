"""Versions as people see them: acknowledge an upload, look, promote, roll back, retire.

The steps' side (leases, results) is in `work`; what a move changes is in `moves`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, tuple_

from serving.controller.errors import IdempotencyConflict, NotFound, OverrideNeeded
from serving.controller.lifecycle import Event, State, Verdict
from serving.controller.registry import moves
from serving.controller.registry.moves import Move
from serving.controller.registry.tables import (
    AdapterRow,
    GateReportRow,
    IdempotencyRow,
    Json,
    VersionRow,
)
from serving.controller.registry.tenants import fetch_tenant
from serving.controller.registry.transactions import MAX_KEYS, Sessions, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload whose bytes are safe in the store."""

    tenant_id: str
    adapter: str
    digest: str
    files: list[Any]
    """`[{"name","sha256","size_bytes"}]`."""
    created_by: str
    promote_mode: str = "manual"
    suite_id: str | None = None
    idempotency_key: str | None = None


class Versions:
    """Versions of all adapters."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def acknowledge(self, upload: Upload) -> tuple[VersionRow, bool]:
        """Make the version of these bytes; `(row, is_new)`. The same bytes are the same version.

        Raises:
            NotFound: no such tenant.
            IdempotencyConflict: the key was used for another upload.
        """

        return await self._sessions.write(lambda unit: acknowledge_upload(unit, upload))

    async def find(self, version_id: str) -> VersionRow:
        """The row of `acme/support@3`.

        Raises:
            NotFound: there is no such version.
        """
        async with self._sessions.read() as session:
            row = await session.get(VersionRow, version_id)
        if row is None:
            raise NotFound(kind="version", name=version_id)
        return row

    async def all(
        self,
        *,
        tenant_id: str | None = None,
        adapter: str | None = None,
        states: frozenset[State] | None = None,
        keys: Sequence[tuple[str, str]] | None = None,
    ) -> list[VersionRow]:
        """Versions, newest number first within each adapter.

        `keys`: of these (tenant, adapter), and maybe of others.
        """
        query = select(VersionRow).order_by(
            VersionRow.tenant_id, VersionRow.adapter, VersionRow.number.desc()
        )
        if tenant_id is not None:
            query = query.where(VersionRow.tenant_id == tenant_id)
        if adapter is not None:
            query = query.where(VersionRow.adapter == adapter)
        if states is not None:
            query = query.where(VersionRow.state.in_([state.value for state in states]))
        if keys is not None and len(keys) <= MAX_KEYS:
            query = query.where(tuple_(VersionRow.tenant_id, VersionRow.adapter).in_(keys))
        async with self._sessions.read() as session:
            return [*(await session.execute(query)).scalars()]

    async def count_by_state(self) -> dict[str, int]:
        """How many versions are in each state; states without one are 0."""
        query = select(VersionRow.state, func.count()).group_by(VersionRow.state)
        async with self._sessions.read() as session:
            found = {row[0]: row[1] for row in await session.execute(query)}
        return {state.value: found.get(state.value, 0) for state in State}

    async def oldest_seconds(self, states: frozenset[State]) -> dict[str, float]:
        """How long the oldest version in each of these states has been there; 0: there is none."""
        query = (
            select(VersionRow.state, func.min(VersionRow.state_since))
            .where(VersionRow.state.in_([state.value for state in states]))
            .group_by(VersionRow.state)
        )
        async with self._sessions.read() as session:
            since = {row[0]: row[1] for row in await session.execute(query)}
        now = self._sessions.clock()
        return {s.value: max(0.0, now - since[s.value]) if s in since else 0.0 for s in states}

    async def report(
        self, version_id: str, *, attempt: int | None = None, recheck: int | None = None
    ) -> GateReportRow | None:
        """The gate's report of one attempt (and re-check), or the latest; None before the first."""
        query = (
            select(GateReportRow)
            .where(GateReportRow.version_id == version_id)
            .order_by(GateReportRow.attempt.desc(), GateReportRow.recheck.desc())
            .limit(1)
        )
        if attempt is not None:
            query = query.where(GateReportRow.attempt == attempt)
        if recheck is not None:
            query = query.where(GateReportRow.recheck == recheck)
        async with self._sessions.read() as session:
            return (await session.execute(query)).scalar_one_or_none()

    async def promote(
        self,
        version_id: str,
        *,
        actor: str,
        override_reason: str | None = None,
        stale: Json | None = None,
    ) -> VersionRow:
        """Into staging; engines prove it, then the alias moves.

        A version that has passed, but on a `stale` proof, goes through the gate again first, and
        then on by itself. A failed re-check counts like a verdict that is not PASS.

        Raises:
            NotFound, IllegalTransition
            OverrideNeeded: the verdict is not PASS and no reason is given.
        """
        reason = (override_reason or "").strip() or None

        async def work(unit: Unit) -> VersionRow:
            row = await moves.fetch_version(unit, version_id)
            failed = _failed_recheck(row)
            outdated = stale or (failed and failed["reason"])
            if row.state == State.PASSED and outdated:
                _prove_again(unit, row, actor=actor, stale=outdated)
                return row
            is_passed = row.verdict == Verdict.PASS and failed is None
            event = Event.PROMOTE if is_passed else Event.OVERRIDE
            may_override = State(row.state) in {
                State.FAILED, State.INCONCLUSIVE, State.SUPERSEDED,
            }  # fmt: skip
            if not is_passed and may_override and not reason:
                raise OverrideNeeded(version=version_id, verdict=_standing(row))
            evidence = None if is_passed else await _overruled(unit, row)
            move = Move(event=event, actor=actor, reason=reason, evidence=evidence)
            await moves.stage(unit, row, move)
            return row

        return await self._sessions.write(work)

    async def reevaluate(
        self, version_id: str, *, actor: str, reason: str | None = None
    ) -> VersionRow:
        """Back to the gate, as a new attempt.

        Raises:
            NotFound, IllegalTransition
        """

        async def work(unit: Unit) -> VersionRow:
            row = await moves.fetch_version(unit, version_id)
            reevaluate_version(unit, row, Move(event=Event.REEVALUATE, actor=actor, reason=reason))
            return row

        return await self._sessions.write(work)

    async def retire(self, version_id: str, *, actor: str, reason: str | None = None) -> VersionRow:
        """Forbid new use; engines remove it when its in-flight is 0.

        Raises:
            NotFound, IllegalTransition
        """

        async def work(unit: Unit) -> VersionRow:
            row = await moves.fetch_version(unit, version_id)
            await moves.retire(unit, row, Move(event=Event.RETIRE, actor=actor, reason=reason))
            return row

        return await self._sessions.write(work)

    async def roll_back(
        self,
        tenant_id: str,
        adapter: str,
        *,
        actor: str,
        rollback_seconds: float,
        reason: str | None = None,
    ) -> VersionRow:
        """Move the alias to its previous target; the version that is live now.

        Raises:
            NotFound: no such adapter.
            NothingToRollBack: no previous target that engines still hold.
        """

        async def work(unit: Unit) -> VersionRow:
            row = await unit.session.get(AdapterRow, (tenant_id, adapter))
            if row is None:
                raise NotFound(kind="adapter", name=f"{tenant_id}/{adapter}")
            move = Move(event=Event.RESTORE, actor=actor, reason=reason)
            key = await moves.roll_back(unit, row, move, rollback_seconds=rollback_seconds)
            return await moves.fetch_version(unit, key)

        return await self._sessions.write(work)


async def acknowledge_upload(unit: Unit, upload: Upload) -> tuple[VersionRow, bool]:
    """`Versions.acknowledge` inside a transaction that is already open."""
    await fetch_tenant(unit, upload.tenant_id)
    row = await _row_of_key(unit, upload) or await _row_of_digest(unit, upload)
    is_new = row is None
    if row is None:
        row = await _insert(unit, upload)
        await unit.session.flush()
    await _remember_key(unit, upload, row)
    return row, is_new


def reevaluate_version(unit: Unit, row: VersionRow, move: Move) -> None:
    """Back to the gate as a new attempt, inside a transaction that is already open.

    Raises:
        IllegalTransition: the state does not allow it.
    """
    moves.make_move(unit, row, move)
    row.attempt, row.verdict, row.probe = row.attempt + 1, None, None
    row.override_reason = row.override_by = None


def _prove_again(unit: Unit, row: VersionRow, *, actor: str, stale: Json) -> None:
    reason = f"promoted on a proof that is out of date: {', '.join(stale['changed'])} changed"
    move = Move(event=Event.REEVALUATE, actor=actor, reason=reason, evidence={"stale": stale})
    reevaluate_version(unit, row, move)
    # Who promotes wants it live: after PASS it goes on as if it had been pushed so.
    row.promote_mode = "auto"


async def _overruled(unit: Unit, row: VersionRow) -> Json:
    """What an override sets aside: the verdict, and the report that it is from."""
    latest = (
        select(GateReportRow.attempt, GateReportRow.recheck)
        .where(GateReportRow.version_id == row.id)
        .order_by(GateReportRow.attempt.desc(), GateReportRow.recheck.desc())
        .limit(1)
    )
    found = (await unit.session.execute(latest)).one_or_none()
    report = None if found is None else {"attempt": found[0], "recheck": found[1]}
    return {"verdict": _standing(row), "report": report}


def _failed_recheck(row: VersionRow) -> Json | None:
    is_failed = (row.recheck or {}).get("verdict") == Verdict.FAIL
    return row.recheck if is_failed else None


def _standing(row: VersionRow) -> str | None:
    """The latest verdict on a version, of its re-check where it had one."""
    return (row.recheck or {}).get("verdict") or row.verdict


async def _row_of_key(unit: Unit, upload: Upload) -> VersionRow | None:
    if upload.idempotency_key is None:
        return None
    known = await unit.session.get(IdempotencyRow, (upload.tenant_id, upload.idempotency_key))
    if known is None:
        return None
    if known.request != _fingerprint(upload):
        raise IdempotencyConflict(key=upload.idempotency_key, first=known.version_id)
    return await moves.fetch_version(unit, known.version_id)


async def _row_of_digest(unit: Unit, upload: Upload) -> VersionRow | None:
    return await unit.one(
        select(VersionRow).where(
            VersionRow.tenant_id == upload.tenant_id,
            VersionRow.adapter == upload.adapter,
            VersionRow.digest == upload.digest,
            VersionRow.state != State.RETIRED.value,
        )
    )


async def _remember_key(unit: Unit, upload: Upload, row: VersionRow) -> None:
    if upload.idempotency_key is None:
        return
    known = await unit.session.get(IdempotencyRow, (upload.tenant_id, upload.idempotency_key))
    if known is None:
        unit.session.add(
            IdempotencyRow(
                tenant_id=upload.tenant_id,
                key=upload.idempotency_key,
                request=_fingerprint(upload),
                version_id=row.id,
                created_at=unit.now,
            )
        )


def _fingerprint(upload: Upload) -> str:
    return f"{upload.adapter} {upload.digest}"


async def _insert(unit: Unit, upload: Upload) -> VersionRow:
    adapter = await unit.session.get(AdapterRow, (upload.tenant_id, upload.adapter))
    if adapter is None:
        adapter = AdapterRow(
            tenant_id=upload.tenant_id, name=upload.adapter, next_number=1, created_at=unit.now
        )
        unit.session.add(adapter)
        # No relationship orders the two inserts.
        await unit.session.flush()
    number, adapter.next_number = adapter.next_number, adapter.next_number + 1
    row = VersionRow(
        id=moves.version_id(upload.tenant_id, upload.adapter, number),
        tenant_id=upload.tenant_id,
        adapter=upload.adapter,
        number=number,
        digest=upload.digest,
        files=upload.files,
        size_bytes=sum(int(file["size_bytes"]) for file in upload.files),
        state=State.UPLOADING.value,
        promote_mode=upload.promote_mode,
        suite_id=upload.suite_id,
        attempt=0,
        attempts=0,
        created_by=upload.created_by,
        created_at=unit.now,
        state_since=unit.now,
        next_attempt_at=unit.now,
    )
    unit.session.add(row)
    evidence: Json = {"digest": upload.digest, "size_bytes": row.size_bytes}
    moves.make_move(
        unit, row, Move(event=Event.ACKNOWLEDGE, actor=upload.created_by, evidence=evidence)
    )
    return row
