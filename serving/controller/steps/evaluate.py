"""Evaluation: the parity gate, from the artifact's bytes to a stored report and a verdict.

The standalone side goes first and alone; only an adapter that it found finite is shown to an
engine. Nothing is remembered between two tries but the candidate's place in the snapshot, so a
killed evaluation simply runs again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.errors import (
    ArtifactNotFound,
    DigestMismatch,
    ReferenceFailed,
    StoreUnavailable,
    SuiteInvalid,
)
from adapters.parity.gate_plan import (
    GateInputs,
    NoiseFloor,
    measure_floor,
    plan_verification,
)
from adapters.parity.numeric import CandidateAnswer, Verified
from adapters.parity.suite import Suite, builtin_probe, parse_suite
from adapters.parity.verdict import Reason, Verdict, VerdictKind
from serving.contract import EngineReport
from serving.controller.gate_client import EngineCallError, EngineUnreachable
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.candidate import (
    CandidateRefused,
    NoEngine,
    ask_base,
    ask_candidate,
    wait_for_candidate,
)
from serving.controller.steps.conclude import Evaluated, conclude, give_up
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.metrics import Stopwatch
from serving.controller.steps.outcome import Done, Outcome, Retry, Terminal
from serving.controller.steps.standalone import Alone, examine_alone

_MAX_REFERENCE_TRIES = 3
"""Arbitrary: a process that dies three times over one adapter will die again."""


async def evaluate(context: StepContext, row: VersionRow, lease: Lease) -> Outcome:
    """Passed, failed or inconclusive, with a report; or put off while the world is not ready."""
    if context.settings.model is None:
        return Retry("base_model_unset")
    watch = Stopwatch(context.metrics)
    try:
        with watch.stage("total"):
            return await _evaluate(context, row, lease, watch)
    except StoreUnavailable as exc:
        return Retry(exc.code, detail=exc.fields)
    except (ArtifactNotFound, DigestMismatch) as exc:
        return Terminal(exc.code, detail=exc.fields)
    except ReferenceFailed as exc:
        if row.attempts + 1 < _MAX_REFERENCE_TRIES:
            return Retry(exc.code, detail=exc.fields)
        return await give_up(context, row, lease, verdict=_inconclusive(exc.code, str(exc)))
    except SuiteInvalid as exc:
        return await give_up(context, row, lease, verdict=_inconclusive(exc.code, str(exc)))
    except EngineUnreachable as exc:
        return Retry(exc.code, after_seconds=5.0, detail={"detail": str(exc)})
    except EngineCallError as exc:
        # From the base's own requests: the engine cannot be measured, which says nothing of the
        # candidate.
        return Retry(exc.code, detail={"detail": str(exc)})
    except NoEngine:
        return Retry("waiting_for_engine", after_seconds=10.0)


@dataclass(frozen=True, slots=True)
class _Case:
    """One evaluation's fixed facts."""

    row: VersionRow
    folder: Path
    suite: Suite
    alone: Alone
    watch: Stopwatch


async def _evaluate(
    context: StepContext, row: VersionRow, lease: Lease, watch: Stopwatch
) -> Outcome:
    started_at = context.clock()
    suite = await _suite(context, row)
    lease.progress("fetch")
    folder = await context.store.fetch(row.digest, context.artifacts_dir)
    with watch.stage("reference"):
        alone = await examine_alone(context, folder, suite.to_prompts(), lease)
    case = _Case(row, folder, suite, alone, watch)
    engine, inputs, verdict = None, _inputs(alone), None
    if alone.may_touch_engines:
        if not await lease.apply(keep_lease=True, gate_phase="candidate"):
            return Done()
        try:
            engine, inputs = await _measure_on_engine(context, case, lease)
        except CandidateRefused as exc:
            kind = VerdictKind.FAIL if exc.is_against else VerdictKind.INCONCLUSIVE
            verdict = Verdict(kind, (Reason(exc.code, exc.text),))
    evaluated = Evaluated(
        row=row,
        suite=suite,
        base=alone.base,
        inputs=inputs,
        started_at=started_at,
        seconds_by_stage=watch.seconds,
        engine=engine,
        verdict=verdict,
    )
    return await conclude(context, lease, evaluated)


async def _measure_on_engine(
    context: StepContext, case: _Case, lease: Lease
) -> tuple[EngineReport, GateInputs]:
    prompts, watch = case.alone.prompts, case.watch
    with watch.stage("load"):
        engine = await wait_for_candidate(context, case.row, lease)
    with watch.stage("candidate"):
        served = await ask_candidate(context, case.row, prompts, lease, engine=engine)
    with watch.stage("noise"):
        floor = await _noise_floor(context, case, lease, engine=served.engine)
    with watch.stage("verify"):
        rows = await _verify(context, case.folder, served.answers, lease)
    inputs = replace(_inputs(case.alone), answers=served.answers, rows=rows, floor=floor)
    return served.engine, inputs


def _inputs(alone: Alone) -> GateInputs:
    return GateInputs(
        case_ids=tuple(item.case_id for item in alone.prompts),
        dtype=alone.base.dtype,
        export=alone.export,
        effects=alone.effects,
        load_problem=alone.load_problem,
    )


async def _noise_floor(
    context: StepContext, case: _Case, lease: Lease, *, engine: EngineReport
) -> NoiseFloor:
    """The negative control of this engine build, base, number type and suite; measured once."""
    base, suite_digest = case.alone.base, case.suite.digest
    work = context.repository.work
    # The suite is part of the key: other prompts may have another floor.
    content = f"{base.revision}/{suite_digest}"
    cached = await work.noise_floor(engine.build, content, base.dtype)
    if cached is not None:
        return NoiseFloor.from_json(cached)
    answers = await ask_base(context, case.alone.prompts, lease, engine=engine)
    rows = await _verify(context, None, answers, lease)
    floor = measure_floor(
        answers,
        rows,
        engine_build=engine.build,
        base_revision=base.revision,
        dtype=base.dtype,
        suite_digest=suite_digest,
    )
    await work.save_noise_floor(engine.build, content, base.dtype, floor.to_json())
    return floor


async def _verify(
    context: StepContext, folder: Path | None, answers: Sequence[CandidateAnswer], lease: Lease
) -> Verified:
    plan = plan_verification(answers)
    lease.progress("verify", 0, len(plan))
    rows = await context.reference.verify(
        folder,
        plan,
        against_base=folder is not None,
        on_progress=lambda done, total: lease.progress("verify", done, total),
    )
    return dict(zip(plan, rows, strict=True))


async def _suite(context: StepContext, row: VersionRow) -> Suite:
    if row.suite_id is None:
        return builtin_probe()
    stored = await context.repository.tenants.suite(row.suite_id)
    return parse_suite(stored.content.encode())


def _inconclusive(code: str, text: str) -> Verdict:
    return Verdict(VerdictKind.INCONCLUSIVE, (Reason(code, text),))
