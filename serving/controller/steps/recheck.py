"""Re-checks: a version in service is measured again when the fleet runs what no proof covers.

The version stays where it is and goes on answering. Pushes come first: nothing is measured again
while a version waits for its first proof, but what is about to go live on a second kind of engine,
and what engines wait for while none serves tenants.
"""

from __future__ import annotations

import asyncio

import msgspec

from adapters.parity.policy import OnRecheckFail
from adapters.parity.report import give_up_report
from adapters.parity.verdict import Verdict, VerdictKind
from serving.controller import lifecycle
from serving.controller.lifecycle import State
from serving.controller.policies import resolve_policy
from serving.controller.registry.rechecks import RecheckResult
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import StaleReason, find_stale
from serving.controller.steps.clearance import keep_clearances, serving_kinds, wanted
from serving.controller.steps.conclude import Evaluated, Judged, judge_evaluation
from serving.controller.steps.context import StepContext
from serving.controller.steps.evaluate import deaths_in, try_to_measure
from serving.controller.steps.lease import Lease
from serving.controller.steps.measuring import Recheck
from serving.controller.steps.outcome import Done, Outcome


async def claim_recheck(
    context: StepContext, *, owner: str, lease_seconds: float
) -> VersionRow | None:
    """Lease a version in service that must be measured again; None: none must, or not now."""
    await keep_clearances(context)
    if context.card is None:
        return None
    rechecks, is_busy = context.repository.rechecks, await _is_busy(context, lease_seconds)
    for want in await wanted(context):
        if is_busy and not want.is_urgent:
            continue
        for version_id in await rechecks.due(want.kind, states=want.states):
            if version_id not in want.settled:
                continue
            row = await rechecks.claim(version_id, lease_seconds=lease_seconds, owner=owner)
            if row is not None:
                return row
    return None


async def recheck(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
    """Measure, and keep report, verdict and audit row; no move but the policy's rollback."""
    proofs = await context.repository.rechecks.proofs(row.id)
    # One by one: the first is the most urgent.
    wants = [want.kind for want in await wanted(context) if want.suits(row)]
    stale = (find_stale(proofs, [kind]) for kind in wants)
    reason = next((found for found in stale if found is not None), None)
    if reason is None:
        await context.repository.rechecks.put_off(row.id, lease.token, None)
        return Done()
    serving = await serving_kinds(context)
    known = row.recheck or {}
    what = Recheck(reason.now, number=int(known.get("number") or 0) + 1)
    found = await try_to_measure(
        context, row, lease, n_deaths=deaths_in(known.get("error")), recheck=what
    )
    if not isinstance(found, Evaluated | Verdict):
        return found
    judged = await _judge(row, found)
    serves = reason.now in {*serving, *await serving_kinds(context)}
    if await _store(context, row, lease, judged, reason, serves=serves):
        context.metrics.gate_rechecks.labels(judged.verdict.kind.value).inc()
    for key in found.spent_results if isinstance(found, Evaluated) else ():
        await context.store.results.forget(key)
    return Done()


async def _judge(row: VersionRow, found: Evaluated | Verdict) -> Judged:
    if isinstance(found, Evaluated):
        return await asyncio.to_thread(judge_evaluation, found)
    report = give_up_report(version=row.id, adapter_digest=row.digest, verdict=found)
    return Judged(found, report, probe=None)


async def _store(
    context: StepContext,
    row: VersionRow,
    lease: Lease,
    judged: Judged,
    reason: StaleReason,
    *,
    serves: bool,
) -> bool:
    policy = (await resolve_policy(context, row)).policy
    is_pass = judged.verdict.kind is VerdictKind.PASS
    # A kind that serves nobody, because it waits for the gate, is kept out itself: that it fails
    # there says nothing against the version where tenants are.
    may_roll_back = (
        serves and policy.on_recheck_fail is OnRecheckFail.ROLLBACK and row.state == State.LIVE
    )
    result = RecheckResult(
        reason=reason,
        verdict=lifecycle.Verdict(judged.verdict.kind.value),
        reasons=[item.to_json() for item in judged.verdict.reasons],
        report=judged.report,
        probe=msgspec.to_builtins(judged.probe) if is_pass else None,
        rollback_seconds=context.settings.rollback_window_seconds if may_roll_back else None,
    )
    return await context.repository.rechecks.conclude(row.id, lease.token, result)


async def _is_busy(context: StepContext, lease_seconds: float) -> bool:
    due_at = await context.repository.work.next_due_at((State.VALIDATING, State.EVALUATING))
    # One that somebody works on looks due when its lease ends.
    return due_at is not None and due_at <= context.clock() + lease_seconds
