"""What a move changes, inside a transaction that is already open: state, alias, revision, audit.

Every path of a version through its life ends here, so no move can forget one of the four.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from serving.controller.errors import NotFound, NothingToRollBack
from serving.controller.lifecycle import (
    SERVING_STATES,
    VERDICT_EVENT,
    Event,
    State,
    Verdict,
    next_state,
)
from serving.controller.registry.tables import AdapterRow, AliasRow, Json, VersionRow
from serving.controller.registry.transactions import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """An event with who caused it, why, and on what evidence."""

    event: Event
    actor: str = "controller"
    reason: str | None = None
    evidence: Json | None = None


def is_in_snapshot(row: VersionRow) -> bool:
    """Whether engines shall hold this version."""
    return State(row.state) in SERVING_STATES or (
        row.state == State.EVALUATING and row.gate_phase == "candidate"
    )


def make_move(unit: Unit, row: VersionRow, move: Move) -> None:
    """Move one version: state, lease, step counters, revision, audit. Aliases are the caller's.

    Raises:
        IllegalTransition: the state does not allow the event.
    """
    verdict = Verdict(row.verdict) if row.verdict else None
    before, was_held = State(row.state), is_in_snapshot(row)
    after = next_state(before, move.event, verdict=verdict)
    row.state, row.state_since, row.gate_phase = after.value, unit.now, None
    row.attempts, row.next_attempt_at = 0, unit.now
    row.error, row.progress = None, None
    unlock(row)
    if is_in_snapshot(row) or was_held:
        unit.bump()
    unit.audit(
        move.event.value,
        row.id,
        actor=move.actor,
        tenant_id=row.tenant_id,
        moved=(before.value, after.value),
        reason=move.reason,
        evidence=move.evidence,
    )


def unlock(row: VersionRow) -> None:
    """Give back the lease."""
    row.lock_token = row.lock_owner = row.lock_expires_at = None


async def stage(unit: Unit, row: VersionRow, move: Move) -> None:
    """Promote or override into staging; another staging version of the adapter is withdrawn."""
    await withdraw_staging(unit, row, actor=move.actor, reason=f"{row.id} is promoted")
    make_move(unit, row, move)
    # Engines that failed to load it before shall try again.
    row.attempt += 1
    if move.event is Event.OVERRIDE:
        row.override_reason, row.override_by = move.reason, move.actor


async def withdraw_staging(unit: Unit, row: VersionRow, *, actor: str, reason: str) -> None:
    """Take every other staging version of this adapter back to what its verdict says."""
    staging = select(VersionRow).where(
        VersionRow.tenant_id == row.tenant_id,
        VersionRow.adapter == row.adapter,
        VersionRow.state == State.STAGING.value,
        VersionRow.id != row.id,
    )
    for other in await unit.all(staging):
        make_move(unit, other, Move(event=Event.WITHDRAW, actor=actor, reason=reason))


async def switch(unit: Unit, row: VersionRow, move: Move, *, rollback_seconds: float) -> None:
    """Move the alias to `row` (SWITCH or RESTORE); its present target is superseded."""
    alias = await unit.session.get(AliasRow, (row.tenant_id, row.adapter))
    make_move(unit, row, move)
    row.live_since = unit.now
    if alias is None:
        alias = AliasRow(
            tenant_id=row.tenant_id, adapter=row.adapter, number=row.number, previous_number=None,
            moved_at=unit.now, moved_by=move.actor,
        )  # fmt: skip
        unit.session.add(alias)
    else:
        old = await fetch_version(unit, version_id(row.tenant_id, row.adapter, alias.number))
        supersede = Move(event=Event.SUPERSEDE, actor=move.actor, reason=f"{row.id} is live")
        make_move(unit, old, supersede)
        old.next_attempt_at = unit.now + rollback_seconds
        alias.previous_number, alias.number = alias.number, row.number
        alias.moved_at, alias.moved_by = unit.now, move.actor
    unit.bump()


async def roll_back(unit: Unit, adapter: AdapterRow, move: Move, *, rollback_seconds: float) -> str:
    """Move the alias to its previous target; the id of the version that is live now.

    Raises:
        NothingToRollBack: there is no previous target that engines still hold.
    """
    alias = await unit.session.get(AliasRow, (adapter.tenant_id, adapter.name))
    if alias is None or alias.previous_number is None:
        raise NothingToRollBack(adapter=f"{adapter.tenant_id}/{adapter.name}")
    row = await fetch_version(
        unit, version_id(adapter.tenant_id, adapter.name, alias.previous_number)
    )
    # A version on its way to live would undo the rollback a moment later.
    await withdraw_staging(unit, row, actor=move.actor, reason="the alias is rolled back")
    if row.state != State.SUPERSEDED:
        raise NothingToRollBack(adapter=f"{adapter.tenant_id}/{adapter.name}")
    await switch(unit, row, move, rollback_seconds=rollback_seconds)
    return row.id


async def retire(unit: Unit, row: VersionRow, move: Move) -> None:
    """Forbid new use: the alias loses this version as target or as previous target."""
    make_move(unit, row, move)
    alias = await unit.session.get(AliasRow, (row.tenant_id, row.adapter))
    if alias is not None and alias.number == row.number:
        await unit.session.delete(alias)
    elif alias is not None and alias.previous_number == row.number:
        alias.previous_number = None


async def conclude(
    unit: Unit,
    row: VersionRow,
    *,
    verdict: Verdict,
    evidence: Json | None,
    lenient_policy: Json | None = None,
) -> None:
    """Move to what the gate says; go on to staging when the uploader asked for it.

    INCONCLUSIVE goes on where `lenient_policy` names a policy that wants it so. An automatic
    promotion never replaces a newer version by an older one that finished later.
    """
    move = Move(event=VERDICT_EVENT[verdict], evidence=evidence)
    make_move(unit, row, move)
    row.verdict = verdict.value
    follow = _follow(verdict, lenient_policy)
    if follow is None or row.promote_mode != "auto":
        return
    newer = select(VersionRow.id).where(
        VersionRow.tenant_id == row.tenant_id,
        VersionRow.adapter == row.adapter,
        VersionRow.number > row.number,
        VersionRow.state.in_([State.STAGING.value, State.LIVE.value]),
    )
    if await unit.all(newer):
        unit.audit(
            "hold", row.id, actor=move.actor, tenant_id=row.tenant_id,
            reason="a newer version is already on its way or live",
        )  # fmt: skip
        return
    await stage(unit, row, follow)


def _follow(verdict: Verdict, lenient_policy: Json | None) -> Move | None:
    """What promote=auto does with a verdict."""
    if verdict is Verdict.PASS:
        return Move(event=Event.PROMOTE, reason="promote=auto")
    if verdict is not Verdict.INCONCLUSIVE or lenient_policy is None:
        return None
    scope, number = lenient_policy["scope"], lenient_policy["number"]
    which = scope if number is None else f"{scope} number {number}"
    return Move(
        event=Event.OVERRIDE,
        reason=f"on_inconclusive: promote (policy of {which})",
        evidence={"policy": lenient_policy, "verdict": verdict.value},
    )


def version_id(tenant: str, adapter: str, number: int) -> str:
    """`acme/support@3`."""
    return f"{tenant}/{adapter}@{number}"


async def fetch_version(unit: Unit, key: str) -> VersionRow:
    """The row of `acme/support@3`.

    Raises:
        NotFound: there is no such version.
    """
    row = await unit.session.get(VersionRow, key)
    if row is None:
        raise NotFound(kind="version", name=key)
    return row
