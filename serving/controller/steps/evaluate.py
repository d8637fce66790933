"""Evaluation: the parity gate, from the artifact's bytes to a stored report and a verdict.

The standalone side goes first and alone; only an adapter that it found finite is shown to an
engine. Finished stages are kept (see `stages`), so a killed evaluation goes on where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adapters.errors import (
    ArtifactNotFound,
    DigestMismatch,
    ReferenceFailed,
    ReferenceUnavailable,
    RunnerError,
    RunnerUnreachable,
    StoreUnavailable,
    SuiteInvalid,
)
from adapters.parity.gate_plan import GateInputs
from adapters.parity.reasons import Reason
from adapters.parity.verdict import Verdict, VerdictKind
from serving.contract import EngineReport
from serving.controller.gate_client import EngineCallError, EngineUnreachable
from serving.controller.policies import resolve_policy
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.asked import load_asked
from serving.controller.steps.candidate import CandidateRefused, NoEngine, choose_dtype
from serving.controller.steps.conclude import Evaluated, conclude, give_up
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.measuring import Case, Recheck, inputs_alone, measure_on_engine
from serving.controller.steps.metrics import Stopwatch
from serving.controller.steps.outcome import Done, Outcome, Retry, Terminal
from serving.controller.steps.stages import Stages
from serving.controller.steps.standalone import examine_alone

_MAX_DEATHS = 3
"""Arbitrary: a process that dies three times over one adapter will die again."""


async def evaluate(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
    """Passed, failed or inconclusive, with a report; or put off while the world is not ready."""
    found = await try_to_measure(context, row, lease, n_deaths=deaths_in(row.error))
    match found:
        case Evaluated():
            return await conclude(context, lease, found)
        case Verdict():
            return await give_up(context, row, lease, verdict=found)
    return found


async def try_to_measure(
    context: StepContext,
    row: VersionRow,
    lease: Lease,
    *,
    n_deaths: int,
    recheck: Recheck | None = None,
) -> Evaluated | Verdict | Outcome:
    """What the gate observes; a verdict where nothing can be; or when to try again.

    `n_deaths`: how often the reference died over it before; every put-off's detail passes it on.
    """
    found = await _try(context, row, lease, n_deaths=n_deaths, recheck=recheck)
    if isinstance(found, Retry) and n_deaths:
        return replace(found, detail={"n_deaths": n_deaths, **found.detail})
    return found


def deaths_in(error: Mapping[str, Any] | None) -> int:
    """How often the reference has died over a version, by the error that its last try left."""
    return int((error or {}).get("n_deaths") or 0)


async def _try(
    context: StepContext, row: VersionRow, lease: Lease, *, n_deaths: int, recheck: Recheck | None
) -> Evaluated | Verdict | Outcome:
    if context.settings.model is None:
        return Retry("base_model_unset")
    try:
        measured = await measure_version(context, row, lease, recheck=recheck)
        return Done() if measured is None else measured
    except (StoreUnavailable, ReferenceUnavailable) as exc:
        # Nobody could be asked, which says nothing of the adapter, however often.
        return Retry(exc.code, detail=exc.fields)
    except (ArtifactNotFound, DigestMismatch) as exc:
        return Terminal(exc.code, detail=exc.fields)
    except ReferenceFailed as exc:
        if n_deaths + 1 < _MAX_DEATHS:
            return Retry(exc.code, detail={**exc.fields, "n_deaths": n_deaths + 1})
        return _inconclusive(exc.code, str(exc))
    except RunnerUnreachable as exc:
        return Retry(exc.code, after_seconds=15.0, detail=exc.fields)
    except (SuiteInvalid, RunnerError) as exc:
        return _inconclusive(exc.code, str(exc))
    except EngineCallError as exc:
        # From the base's own requests: the engine cannot be measured, which says nothing of the
        # candidate.
        pause = 5.0 if isinstance(exc, EngineUnreachable) else None
        return Retry(exc.code, after_seconds=pause, detail={"detail": str(exc)})
    except NoEngine:
        return Retry("waiting_for_engine", after_seconds=10.0)


async def measure_version(
    context: StepContext, row: VersionRow, lease: Lease, *, recheck: Recheck | None = None
) -> Evaluated | None:
    """Everything that the gate observes of a version; None: the lease is stale, nobody wants it.

    With `recheck` the version is in service: engines hold it already, and it stays there.

    Raises:
        AdapterError: of the store, the artifact, the suite or the standalone side.
        EngineCallError, NoEngine: no engine could be measured; says nothing of the version.
    """
    started_at, watch = context.clock(), Stopwatch(context.metrics)
    with watch.stage("total"):
        policy = await resolve_policy(context, row)
        asked = await load_asked(context, row, policy.policy)
        stages = Stages(context.store.results, watch, lease)
        folder = await stages.run(
            "fetch", lambda: context.store.fetch(row.digest, context.artifacts_dir)
        )
        dtype = recheck.kind.dtype if recheck else await choose_dtype(context)
        async with context.number_types.hold(
            dtype, on_waiting=lambda why: stages.wait("waiting_for_reference", why)
        ):
            alone = await examine_alone(
                context, folder, asked, stages, digest=row.digest, dtype=dtype
            )
            case = Case(row, folder, asked, alone, policy.policy, recheck)
            found = await _measure_case(context, case, stages, lease)
    if found is None:
        return None
    served, inputs, verdict = found
    return Evaluated(
        row=row,
        asked=asked,
        base=alone.base,
        policy=policy,
        inputs=inputs,
        started_at=started_at,
        seconds_by_stage=watch.seconds,
        reused_stages=tuple(stages.reused),
        spent_results=tuple(stages.spent),
        engine=served,
        verdict=verdict,
    )


async def _measure_case(
    context: StepContext, case: Case, stages: Stages, lease: Lease
) -> tuple[EngineReport | None, GateInputs, Verdict | None] | None:
    if not case.alone.may_touch_engines or case.is_contaminated:
        return None, inputs_alone(case), None
    phase = {} if case.recheck else {"gate_phase": "candidate"}
    if not await lease.apply(keep_lease=True, **phase):
        return None
    try:
        served, inputs = await measure_on_engine(context, case, stages)
    except CandidateRefused as exc:
        kind = VerdictKind.FAIL if exc.is_against else VerdictKind.INCONCLUSIVE
        return None, inputs_alone(case), Verdict(kind, (Reason(exc.code, exc.text),))
    return served, inputs, None


def _inconclusive(code: str, text: str) -> Verdict:
    return Verdict(VerdictKind.INCONCLUSIVE, (Reason(code, text),))
