"""Staging: wait until every ready engine has proven the version, then move the alias.

The alias, the old target's state and the revision change in one transaction. An engine that could
not prove the version blocks the switch and is named; the present version goes on serving meanwhile.
With `upgrade: gate` the version has a PASS on each kind of engine that it meets, too.
"""

from __future__ import annotations

from typing import Any

from serving.controller.lifecycle import Event
from serving.controller.registry.moves import Move
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import Proof
from serving.controller.steps.clearance import unmeasured_or_worse
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.observation import Observation, observe_version
from serving.controller.steps.outcome import Done, Outcome, Retry

_LOOK_SECONDS = 0.1
"""First pause between two looks, where no engine says anything new before."""
_LOOK_SECONDS_MAX = 2.0


async def stage(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
    """Promote when proven everywhere, hold when that took too long, otherwise look again."""
    now = context.clock()
    seen = observe_version(
        await context.repository.fleet.engines(),
        row.id,
        attempt=row.attempt,
        now=now,
        timeout_seconds=context.settings.engine_timeout_seconds,
    )
    if seen.is_proven_everywhere:
        unmeasured, worse = await unmeasured_or_worse(context, row)
        if worse:
            return await _withdraw(lease, worse)
        if not unmeasured:
            return await _promote(context, row, lease, seen)
        # Its time does not run meanwhile: the gate measures one version after the other.
        lease.progress("waiting_for_gate", 0, len(unmeasured))
        kinds = [kind.to_json() for kind in unmeasured]
        return Retry("waiting_for_gate", after_seconds=_LOOK_SECONDS_MAX, detail={"kinds": kinds})
    since = _ready_since(row, seen, now)
    lease.progress(
        "staging",
        len(seen.proven),
        len(seen.proven) + len(seen.failed) + len(seen.pending),
        ready_since=since,
        waiting_for=list(seen.pending),
    )
    if since is not None and now - since > context.settings.stage_timeout_seconds:
        return await _hold(lease, seen)
    pause = min(_LOOK_SECONDS * 1.2 ** min(row.attempts, 100), _LOOK_SECONDS_MAX)
    return Retry(_code(seen), after_seconds=pause, detail=_evidence(seen))


async def _promote(
    context: StepContext, row: VersionRow, lease: Lease, seen: Observation
) -> Outcome:
    await context.repository.work.switch(
        row.id,
        lease.token,
        rollback_seconds=context.settings.rollback_window_seconds,
        evidence={"proven_on": [report.engine_id for report in seen.proven]},
    )
    return Done()


async def _hold(lease: Lease, seen: Observation) -> Outcome:
    # Back to what the verdict says, out of the snapshot: a person promotes again, or retires it.
    error: dict[str, Any] = {"code": "stage_timeout", "blocked": _code(seen), **_evidence(seen)}
    move = Move(event=Event.WITHDRAW, reason="stage_timeout", evidence=error)
    await lease.apply(move=move, error=error)
    return Done()


async def _withdraw(lease: Lease, worse: list[Proof]) -> Outcome:
    error: dict[str, Any] = {
        "code": "gate_not_passed",
        "detail": f"no PASS on {', '.join(kind.engine_build for kind in worse)}",
        "kinds": [kind.to_json() for kind in worse],
    }
    move = Move(event=Event.WITHDRAW, reason="gate_not_passed", evidence=error)
    await lease.apply(move=move, error=error)
    return Done()


def _ready_since(row: VersionRow, seen: Observation, now: float) -> float | None:
    # Without a ready engine nothing is tried, so no time runs against the version.
    if not seen.has_ready_engine:
        return None
    known = (row.progress or {}).get("ready_since")
    return float(known) if known is not None else now


def _code(seen: Observation) -> str:
    if seen.failed:
        return "engine_cannot_prove"
    return "waiting_for_proof" if seen.pending else "waiting_for_engine"


def _evidence(seen: Observation) -> dict[str, Any]:
    return {
        "failed": [failure.to_json() for failure in seen.failed],
        "waiting_for": list(seen.pending),
        "proven_on": [report.engine_id for report in seen.proven],
    }
