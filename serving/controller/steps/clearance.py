"""`upgrade: gate`: clears kinds of engines, and says what has to be measured before and after that.

Level triggered: looked at whenever a re-check is looked for, by the process that runs the steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from serving.contract import VersionState
from serving.controller.clearance import GATE, asking_kinds, is_waiting, why_clear
from serving.controller.lifecycle import State, Verdict
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.registry.rechecks import IN_SERVICE
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import Proof, kind_of, running_now
from serving.controller.steps.context import StepContext

_SETTLED = frozenset({VersionState.PROVEN, VersionState.FAILED, VersionState.QUARANTINED})
_STAGING, _LIVE = frozenset({State.STAGING}), frozenset({State.LIVE})


@dataclass(frozen=True, slots=True)
class Want:
    """Versions in these states shall have a proof on this kind."""

    kind: Proof
    states: frozenset[State]
    settled: frozenset[str]
    """Those that the kind's engines are through with loading."""
    is_urgent: bool = False
    """It does not wait for pushes."""

    def suits(self, row: VersionRow) -> bool:
        """Whether this version is meant and can be measured now."""
        return State(row.state) in self.states and row.id in self.settled


async def keep_clearances(context: StepContext) -> None:
    """Follow the setting, and clear every kind that may be cleared now."""
    clearances = context.repository.clearances
    state = await clearances.state()
    if not context.settings.is_gated and not state.is_gated:
        return
    asking = _asking(context, await context.repository.fleet.engines())
    if context.settings.is_gated != state.is_gated:
        serving = [kind for kind, is_serving in asking.items() if is_serving]
        reasons = {kind: str(why_clear(True, ())) for kind in serving}
        await clearances.switch(GATE if context.settings.is_gated else "probe", reasons)
        return
    for kind in asking.keys() - state.cleared:
        standings = [] if asking[kind] else await clearances.standings(kind)
        reason = why_clear(asking[kind], standings)
        if reason is not None:
            evidence = {"versions": [item.to_json() for item in standings]}
            await clearances.clear(kind, actor="controller", reason=reason, evidence=evidence)


async def wanted(context: StepContext) -> list[Want]:
    """What shall be measured again, most urgent first; nothing without a base to measure against.

    First what is about to go live, on the kinds that it will meet; then what keeps an engine
    waiting; then what serves; last what a rollback could bring back.
    """
    if context.card is None:
        return []
    engines = await context.repository.fleet.engines()
    ready = _serving(context, engines)
    if not context.settings.is_gated:
        return [_want(context, engines, kind, IN_SERVICE) for kind in ready]
    waiting = [kind for kind in await _waiting_kinds(context, engines) if kind not in ready]
    # With nobody to answer tenants, a push has nowhere to go either.
    is_outage = not any(_asking(context, engines).values())
    plan = [
        *((kind, _STAGING, True) for kind in ready),
        *((kind, _LIVE, is_outage) for kind in waiting),
        *((kind, _LIVE, False) for kind in ready),
        *((kind, IN_SERVICE - _LIVE, False) for kind in (*ready, *waiting)),
    ]
    return [
        replace(_want(context, engines, kind, states), is_urgent=is_urgent)
        for kind, states, is_urgent in plan
    ]


async def serving_kinds(context: StepContext) -> list[Proof]:
    """Kinds of engines that answer tenants now, and that the gate can measure on."""
    return _serving(context, await context.repository.fleet.engines())


async def unmeasured_or_worse(
    context: StepContext, row: VersionRow
) -> tuple[list[Proof], list[Proof]]:
    """Kinds of ready engines that a version about to go live has no verdict on, or a worse one.

    A person's override counts for every kind; so does a version that was never measured at all.
    """
    if not context.settings.is_gated or context.card is None or row.override_reason is not None:
        return [], []
    verdicts = await context.repository.rechecks.verdicts(row.id)
    if not verdicts:
        return [], []
    ready = await serving_kinds(context)
    missing = [kind for kind in ready if kind not in verdicts]
    worse = [kind for kind in ready if verdicts.get(kind, Verdict.PASS) is not Verdict.PASS]
    return missing, worse


def _serving(context: StepContext, engines: Iterable[ObservedEngine]) -> list[Proof]:
    if context.card is None:
        return []
    return running_now(
        engines,
        base_revision=context.card.revision,
        now=context.clock(),
        timeout_seconds=context.settings.engine_timeout_seconds,
        is_gated=context.settings.is_gated,
    )


def _asking(context: StepContext, engines: Iterable[ObservedEngine]) -> dict[Proof, bool]:
    return asking_kinds(
        engines,
        own_base=_own_base(context),
        now=context.clock(),
        timeout_seconds=context.settings.engine_timeout_seconds,
    )


async def _waiting_kinds(context: StepContext, engines: Iterable[ObservedEngine]) -> list[Proof]:
    now, own_base = context.clock(), _own_base(context)
    kinds = {
        kind_of(engine.report, own_base=own_base)
        for engine in engines
        if engine.is_reachable(now, context.settings.engine_timeout_seconds)
        and is_waiting(engine.report)
    }
    return sorted(kind for kind in kinds if kind.base_revision == own_base)


def _want(
    context: StepContext,
    engines: Iterable[ObservedEngine],
    kind: Proof,
    states: frozenset[State],
) -> Want:
    own_base = _own_base(context)
    # By identity: engines of which there is nothing special to say share one list.
    lists = {
        id(engine.report.versions): engine.report.versions
        for engine in engines
        if _is_of(engine, kind, own_base=own_base, is_gated=context.settings.is_gated)
    }
    settled = frozenset(
        item.name for versions in lists.values() for item in versions if item.state in _SETTLED
    )
    return Want(kind, states, settled)


def _is_of(engine: ObservedEngine, kind: Proof, *, own_base: str, is_gated: bool) -> bool:
    if is_gated:
        return kind_of(engine.report, own_base=own_base) == kind
    return (engine.report.build, engine.report.dtype) == (kind.engine_build, kind.dtype)


def _own_base(context: StepContext) -> str:
    return "" if context.card is None else context.card.revision
