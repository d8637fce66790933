"""The gate's phases with an engine: the candidate's answers, both controls, and their verification.

Order: the candidate answers; where the suite has gold the live version too; the base, unless its
noise floor is known; then the standalone side reads everything and, from a first divergence on,
writes its own answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.parity.comparison import ComparisonRules
from adapters.parity.divergence import join_answers, plan_continuations
from adapters.parity.gate_plan import (
    GateInputs,
    NoiseFloor,
    measure_floor,
    plan_verification,
)
from adapters.parity.numeric import CandidateAnswer, Verified
from adapters.parity.policy import GatePolicy
from adapters.parity.protocol import Generated, VerifyRow
from adapters.parity.reasons import Reason
from adapters.parity.reference_key import inputs_digest
from adapters.parity.runners.protocol import RunnerNote
from adapters.parity.task_measure import TaskInputs
from serving.contract import EngineReport, VersionState
from serving.controller.lifecycle import State
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import Proof
from serving.controller.steps.asked import Asked
from serving.controller.steps.candidate import (
    CandidateRefused,
    Served,
    Target,
    ask_candidate,
    ask_other,
    wait_for_candidate,
)
from serving.controller.steps.context import StepContext
from serving.controller.steps.judging import judge_stage
from serving.controller.steps.stages import Stages
from serving.controller.steps.standalone import Alone
from serving.controller.steps.standalone_answers import RunnerUnset, answers_of_runner

_FLOOR_FORMAT = 2
"""Part of a floor's key: raised when a floor holds more than before."""


@dataclass(frozen=True, slots=True)
class Recheck:
    """A measurement of a version in service, on engines of one kind."""

    kind: Proof
    number: int
    """Keeps its results apart from those of other measurements of the same attempt."""


@dataclass(frozen=True, slots=True)
class Case:
    """One evaluation's fixed facts."""

    row: VersionRow
    folder: Path
    asked: Asked
    alone: Alone
    policy: GatePolicy
    recheck: Recheck | None = None

    @property
    def is_contaminated(self) -> bool:
        """The suite is known from training: whatever it would show, it proves nothing."""
        report = self.asked.contamination
        return report is not None and report.is_refused

    @property
    def wants_live(self) -> bool:
        """The live version's answers will be compared: by their gold, or by judges."""
        suite = self.asked.suite
        has_gold = any(item.expect is not None for item in suite.cases)
        return has_gold or (self.policy.use_judges and not suite.is_builtin)

    def parts(self, **more: Any) -> dict[str, Any]:
        """What every result of this evaluation depends on, for the key under which it is kept."""
        base = self.alone.base
        return {
            "base": base.revision,
            "dtype": base.dtype,
            "versions": base.versions,
            "suite": self.asked.suite.digest,
            **more,
        }


def inputs_alone(case: Case) -> GateInputs:
    """What is known before any engine was asked."""
    policy, asked = case.policy, case.asked
    return GateInputs(
        case_ids=tuple(item.case_id for item in case.alone.prompts),
        dtype=case.alone.base.dtype,
        export=case.alone.export,
        effects=case.alone.effects,
        load_problem=case.alone.load_problem,
        rules=ComparisonRules(
            margin=policy.margin,
            confidence=policy.confidence,
            min_cases=policy.min_cases,
            min_cases_per_segment=policy.min_cases_per_segment,
            segment_thresholds=policy.segment_thresholds,
            seed=policy.seed,
        ),
        contamination=asked.contamination,
        n_excluded=len(asked.excluded),
    )


async def measure_on_engine(
    context: StepContext, case: Case, stages: Stages
) -> tuple[EngineReport, GateInputs]:
    """Ask, verify, and put side by side.

    Raises:
        CandidateRefused: the engine cannot serve it, or serves what no finite computation gives.
        EngineCallError, NoEngine, ReferenceFailed, StoreUnavailable: it could not be measured.
    """
    other = await _of_runner(context, case, stages)
    served = await _candidate(context, case, stages)
    _check_dtype(case, served.engine)
    live_name, live = await _live(context, case, stages, engine=served.engine)
    floor = await _noise_floor(context, case, stages, engine=served.engine)
    answers = served.answers
    rows = await _verify(context, case, answers, stages)
    standalone = await _own_answers(context, case, answers, rows, stages)
    notes: tuple[RunnerNote, ...] = ()
    if other is not None:
        standalone, notes = other
    task = TaskInputs(
        cases=case.asked.suite.cases,
        engine=await _texts_by_repeat(context, answers),
        standalone=standalone,
        live=await _texts(context, {item.case_id: item.token_ids for item in live}),
        live_version=live_name,
    )
    inputs = replace(
        inputs_alone(case),
        answers=answers,
        rows=rows,
        floor=floor,
        task=task,
        runner=case.policy.runner.value,
        runner_notes=tuple(Reason(note.code, note.text) for note in notes),
    )
    return served.engine, await _judged(context, case, inputs, stages)


async def _judged(
    context: StepContext, case: Case, inputs: GateInputs, stages: Stages
) -> GateInputs:
    """With what the judges say, where the policy asks for them."""
    if not case.policy.use_judges:
        return inputs
    number = None if case.recheck is None else case.recheck.number
    outcome = await judge_stage(
        context,
        inputs.task,
        stages,
        rules=inputs.rules,
        is_builtin=case.asked.suite.is_builtin,
        parts=case.parts(version=case.row.id, attempt=case.row.attempt, recheck=number),
    )
    return replace(inputs, judge=outcome)


async def _of_runner(
    context: StepContext, case: Case, stages: Stages
) -> tuple[dict[str, str], tuple[RunnerNote, ...]] | None:
    try:
        return await answers_of_runner(
            context,
            case.folder,
            case.asked,
            stages,
            policy=case.policy,
            parts=case.parts(adapter=case.row.digest, attempt=case.row.attempt),
        )
    except RunnerUnset as exc:
        raise CandidateRefused(exc.code, exc.text, is_against=False) from exc


def _check_dtype(case: Case, engine: EngineReport) -> None:
    alone = case.alone.base.dtype
    if engine.dtype != alone:
        text = (
            f"engine {engine.engine_id} computes in {engine.dtype}, the standalone model in "
            f"{alone}: start both with one --dtype"
        )
        raise CandidateRefused("dtypes_differ", text, is_against=False)


async def _candidate(context: StepContext, case: Case, stages: Stages) -> Served:
    row, policy = case.row, case.policy
    # Of this version and attempt alone: a new attempt is asked for to measure again.
    parts = case.parts(
        version=row.id, attempt=row.attempt, repeats=policy.repeats, seed=policy.seed
    )
    target = Target(case.alone.base.dtype)
    if case.recheck is not None:
        target = Target(target.dtype, case.recheck.kind)
        parts["recheck"] = case.recheck.number
    if not await stages.has("candidate", parts, Served):
        await stages.run("load", lambda: wait_for_candidate(context, row, stages, target))
    return await stages.once(
        "candidate",
        parts,
        Served,
        lambda: ask_candidate(context, row, case.alone.prompts, stages, target, policy=policy),
        is_for_all=False,
    )


async def _live(
    context: StepContext, case: Case, stages: Stages, *, engine: EngineReport
) -> tuple[str | None, tuple[CandidateAnswer, ...]]:
    """The same adapter's live version on the same cases, if its answers will be compared."""
    if case.recheck is not None:
        # The question is whether this version is still itself, not whether a later one is better.
        return None, ()
    if not case.wants_live:
        return None, ()
    proven = {item.name for item in engine.versions if item.state is VersionState.PROVEN}
    rows = await context.repository.versions.all(states=frozenset({State.LIVE}))
    live = next((item for item in rows if _is_same_adapter(item, case.row)), None)
    if live is None or live.id not in proven:
        return None, ()
    answers = await stages.once(
        "live",
        case.parts(version=live.id, digest=live.digest, build=engine.build),
        tuple[CandidateAnswer, ...],
        lambda: ask_other(
            context, live.id, case.alone.prompts, stages, stage="live", engine=engine
        ),
    )
    return live.id, answers


def _is_same_adapter(live: VersionRow, row: VersionRow) -> bool:
    is_same = (live.tenant_id, live.adapter) == (row.tenant_id, row.adapter)
    return is_same and live.id != row.id


async def _noise_floor(
    context: StepContext, case: Case, stages: Stages, *, engine: EngineReport
) -> NoiseFloor:
    """The negative control of this engine build, base, number type and suite; measured once."""
    base, suite_digest = case.alone.base, case.asked.suite.digest
    work = context.repository.work
    # The suite is part of the key: other prompts may have another floor.
    content = f"{base.revision}/{suite_digest}/{_FLOOR_FORMAT}"
    cached = await work.noise_floor(engine.build, content, base.dtype)
    if cached is not None:
        return NoiseFloor.from_json(cached)

    async def measure() -> NoiseFloor:
        answers = await ask_other(
            context,
            context.settings.fleet,
            case.alone.prompts,
            stages,
            stage="noise",
            engine=engine,
        )
        plan = plan_verification(answers)
        rows = await context.reference.verify(None, plan)
        return measure_floor(
            answers,
            dict(zip(plan, rows, strict=True)),
            engine_build=engine.build,
            base_revision=base.revision,
            dtype=base.dtype,
            suite_digest=suite_digest,
        )

    floor = await stages.run("noise", measure)
    await work.save_noise_floor(engine.build, content, base.dtype, floor.to_json())
    return floor


async def _verify(
    context: StepContext, case: Case, answers: Sequence[CandidateAnswer], stages: Stages
) -> Verified:
    plan = plan_verification(answers)
    digest = inputs_digest(case.asked.suite.digest, [item.token_ids for item in plan])
    rows = await stages.once(
        "verify",
        case.parts(adapter=case.row.digest, answers=digest),
        list[VerifyRow],
        lambda: context.reference.verify(
            case.folder,
            plan,
            against_base=True,
            on_progress=lambda done, total: stages.progress("verify", done, total),
        ),
        is_for_all=False,
    )
    return dict(zip(plan, rows, strict=True))


async def _own_answers(
    context: StepContext,
    case: Case,
    answers: Sequence[CandidateAnswer],
    rows: Verified,
    stages: Stages,
) -> dict[str, str]:
    """The standalone model's own answer to each case, generated only where it must be."""
    limits = {item.case_id: item.max_tokens for item in case.alone.prompts}
    stop_ids = case.alone.base.eos_token_ids
    plan = plan_continuations(answers, rows, max_tokens=limits, stop_ids=stop_ids)
    generated: list[Generated] = []
    if plan:
        digest = inputs_digest(
            case.asked.suite.digest, [item.prompt_token_ids + item.known for item in plan]
        )
        generated = await stages.once(
            "continue",
            case.parts(adapter=case.row.digest, prefixes=digest),
            list[Generated],
            lambda: context.reference.continue_from(
                case.folder,
                [item.item for item in plan],
                on_progress=lambda done, total: stages.progress("continue", done, total),
            ),
            is_for_all=False,
        )
    by_case = {item.case_id: done for item, done in zip(plan, generated, strict=True)}
    own = join_answers(answers, rows, by_case, max_tokens=limits, stop_ids=stop_ids)
    return await _texts(context, {case_id: item.token_ids for case_id, item in own.items()})


async def _texts(context: StepContext, token_ids: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Texts of both sides come from one tokenizer: what differs is the model, not the decoding."""
    if not token_ids:
        return {}
    texts = await context.reference.decode(list(token_ids.values()))
    return dict(zip(token_ids, texts, strict=True))


async def _texts_by_repeat(
    context: StepContext, answers: Sequence[CandidateAnswer]
) -> dict[str, tuple[str, ...]]:
    distinct = list(dict.fromkeys(answer.token_ids for answer in answers))
    if not distinct:
        return {}
    texts = dict(zip(distinct, await context.reference.decode(distinct), strict=True))
    by_case: dict[str, tuple[str, ...]] = {}
    for answer in sorted(answers, key=lambda item: item.repeat):
        by_case[answer.case_id] = (*by_case.get(answer.case_id, ()), texts[answer.token_ids])
    return by_case
