"""The gate's second phase: the candidate on an engine, next to the other tenants' adapters.

The engine's reports decide whether the candidate is there; requests that fail send us back to them.
An engine that does not answer is waited for: that is never a verdict.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count

from adapters.errors import ArtifactNotFound, DigestMismatch
from adapters.parity.numeric import CandidateAnswer
from adapters.parity.policy import GatePolicy
from adapters.parity.protocol import TokenizedPrompt
from serving.contract import EngineReport, VersionState
from serving.controller.clearance import is_waiting
from serving.controller.gate_client import (
    Answer,
    AnswerNotFinite,
    EngineCallError,
    EngineUnreachable,
    GateClient,
    Prompt,
    plan_traffic,
)
from serving.controller.gate_pace import Pace
from serving.controller.lifecycle import State
from serving.controller.registry.fleet import ObservedEngine
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import Proof, kind_of
from serving.controller.steps.context import StepContext
from serving.controller.steps.observation import EngineFailure, Observation, observe_version
from serving.controller.steps.stages import Stages

_LOOK_SECONDS = 0.2
_PAUSE_SECONDS = 1.0
_MAX_REFUSALS = 5
"""Arbitrary: about five seconds, longer than an engine needs to report a quarantine."""
_MAX_UNREACHABLE = 5
_MAX_WAIT_SECONDS = 300.0
"""Without any ready engine, so long before other evaluations get their turn."""
_BYTES_REASONS = frozenset({ArtifactNotFound.code, DigestMismatch.code})
"""The engine did not get the adapter's bytes, which says nothing about the adapter."""
_MAX_NEIGHBOURS = 7
"""With the candidate they fill the default eight slots."""


class CandidateRefused(Exception):
    """The engine could not serve the candidate; `is_against`: the adapter is to blame."""

    def __init__(self, code: str, text: str, *, is_against: bool) -> None:
        self.code, self.text, self.is_against = code, text, is_against
        super().__init__(f"{code}: {text}")


class NoEngine(Exception):
    """No ready engine for several minutes; says nothing about the candidate."""


@dataclass(frozen=True, slots=True)
class Target:
    """Which engines a measurement is about."""

    dtype: str
    """The standalone side's number type; engines of another one cannot be compared with it."""
    kind: Proof | None = None
    """Only engines of this kind count, and one that waits for the gate is as good as ready."""


@dataclass(frozen=True, slots=True)
class Served:
    """Answers of one engine to every prompt that it can take, each repeat in other company."""

    engine: EngineReport
    answers: tuple[CandidateAnswer, ...]


async def wait_for_candidate(
    context: StepContext, row: VersionRow, stages: Stages, target: Target
) -> EngineReport:
    """The report of a ready engine that has proven the candidate, once there is one.

    Raises:
        CandidateRefused: every ready engine failed to load it, or none had a result in gate time.
        NoEngine: none was ready for several minutes.
    """
    with_engine = without_engine = 0.0
    while True:
        seen = await _observe(context, row, target)
        if seen.proven:
            return seen.proven[0]
        if seen.failed and not seen.pending:
            raise _refusal(seen.failed)
        if seen.has_ready_engine:
            with_engine += _LOOK_SECONDS
        else:
            without_engine += _LOOK_SECONDS
        if with_engine > context.settings.gate_timeout_seconds:
            text = f"no engine had a result after {with_engine:.0f} s"
            raise CandidateRefused("gate_timeout", text, is_against=False)
        if without_engine > _MAX_WAIT_SECONDS:
            raise NoEngine
        stages.progress("load" if seen.has_ready_engine else "waiting_for_engine")
        await asyncio.sleep(_LOOK_SECONDS)


async def ask_candidate(
    context: StepContext,
    row: VersionRow,
    prompts: Sequence[TokenizedPrompt],
    stages: Stages,
    target: Target,
    *,
    policy: GatePolicy,
) -> Served:
    """Every prompt, `policy.repeats` times, mixed with the base and other live adapters.

    Starts over when the engine goes away meanwhile: answers of two lives of an engine don't mix.

    Raises:
        CandidateRefused: the engine cannot serve it, or serves what no finite computation gives.
        EngineUnreachable: engines that report well did not answer the gate, several times.
        NoEngine: see `wait_for_candidate`.
    """
    ask = _Ask(row.id, stage="candidate", repeats=policy.repeats, seed=policy.seed)
    refusals = unreachable = 0
    while True:
        engine = await wait_for_candidate(context, row, stages, target)
        try:
            return Served(engine, await _answers(context, ask, prompts, stages, engine=engine))
        except AnswerNotFinite as exc:
            raise CandidateRefused("engine_answer_not_finite", str(exc), is_against=True) from exc
        except EngineUnreachable:
            unreachable += 1
            if unreachable >= _MAX_UNREACHABLE:
                raise
        except EngineCallError as exc:
            refusals += 1
            if refusals >= _MAX_REFUSALS:
                raise CandidateRefused(exc.code, str(exc), is_against=False) from exc
        await asyncio.sleep(_PAUSE_SECONDS)


async def ask_other(
    context: StepContext,
    model: str,
    prompts: Sequence[TokenizedPrompt],
    stages: Stages,
    *,
    stage: str,
    engine: EngineReport,
) -> tuple[CandidateAnswer, ...]:
    """Another model's answers on this engine, once: the base (noise floor) or the live version.

    Raises:
        EngineCallError: see `GateClient.complete`.
    """
    ask = _Ask(model, stage=stage, repeats=1)
    return await _answers(context, ask, prompts, stages, engine=engine)


@dataclass(frozen=True, slots=True)
class _Ask:
    model: str
    stage: str
    repeats: int
    seed: int = 0


async def _answers(
    context: StepContext,
    ask: _Ask,
    prompts: Sequence[TokenizedPrompt],
    stages: Stages,
    *,
    engine: EngineReport,
) -> tuple[CandidateAnswer, ...]:
    # A case that is too long for the engine stays unanswered, which the verdict says.
    asked = [
        Prompt(item.case_id, item.token_ids, item.max_tokens)
        for item in prompts
        if len(item.token_ids) + item.max_tokens <= engine.max_model_len
    ]
    neighbours = await _neighbours(context, engine, without=ask.model)
    planned = plan_traffic(
        asked, model=ask.model, repeats=ask.repeats, neighbours=neighbours, seed=ask.seed
    )
    numbers, total = count(1), len(asked) * ask.repeats
    stages.progress(ask.stage, 0, total)
    pace = Pace(context.settings.gate_concurrency)
    async with GateClient(url=engine.url, key=context.gate_key, pace=pace) as client:
        answers = await client.answer_all(
            planned,
            on_answer=lambda: stages.progress(ask.stage, next(numbers), total),
        )
    return _to_candidate_answers(answers, asked)


async def _observe(context: StepContext, row: VersionRow, target: Target) -> Observation:
    engines = await measurable(context, target)
    seen = _look(context, row, engines, with_waiting=target.kind is not None)
    if seen.has_ready_engine or target.kind is not None:
        return seen
    # While the base changes, tenants are served by engines that this gate cannot measure on.
    return _look(context, row, engines, with_waiting=True)


def _look(
    context: StepContext,
    row: VersionRow,
    engines: Sequence[ObservedEngine],
    *,
    with_waiting: bool,
) -> Observation:
    return observe_version(
        engines,
        row.id,
        attempt=row.attempt,
        now=context.clock(),
        timeout_seconds=context.settings.engine_timeout_seconds,
        with_waiting=with_waiting,
    )


async def choose_dtype(context: StepContext) -> str:
    """The number type to measure a push in: that of engines that can be asked now.

    vLLM may choose another than the base's own (a float32 base in bfloat16), so engines are asked
    first, those that serve before those that wait; of two types the base's own, or the commoner.
    """
    if context.settings.dtype != "auto":
        return context.dtype
    now, timeout_seconds = context.clock(), context.settings.engine_timeout_seconds
    found = [e for e in await _of_own_base(context) if e.is_reachable(now, timeout_seconds)]
    staying = [e for e in found if not (e.is_leaving or e.report.stopping)]
    ready = [e for e in staying if e.report.is_ready]
    waiting = [e for e in staying if is_waiting(e.report)]
    counted = Counter(e.report.dtype for e in ready or waiting or staying)
    if not counted or context.dtype in counted:
        return context.dtype
    return min(counted, key=lambda dtype: (-counted[dtype], dtype))


async def measurable(context: StepContext, target: Target) -> list[ObservedEngine]:
    """Engines of the target's kind; without one, those that the gate's base and number type suit.

    Where every engine is of another number type than the one that was set, they are left in: the
    gate then says that they differ.
    """
    engines = (
        await _of_own_base(context) if target.kind is None else await _of_kind(context, target.kind)
    )
    same = [e for e in engines if e.report.dtype == target.dtype]
    return same if same or context.settings.dtype == "auto" else engines


async def _of_kind(context: StepContext, kind: Proof) -> list[ObservedEngine]:
    own_base = _own_base(context)
    found = []
    for engine in await context.repository.fleet.engines():
        has = kind_of(engine.report, own_base=own_base)
        if not context.settings.is_gated:
            has = replace(has, base_revision=own_base)
        if has == kind:
            found.append(engine)
    return found


async def _of_own_base(context: StepContext) -> list[ObservedEngine]:
    engines, own_base = await context.repository.fleet.engines(), _own_base(context)
    if not context.settings.is_gated:
        return engines
    return [e for e in engines if kind_of(e.report, own_base=own_base).base_revision == own_base]


def _own_base(context: StepContext) -> str:
    return "" if context.card is None else context.card.revision


def _refusal(failed: Sequence[EngineFailure]) -> CandidateRefused:
    first = failed[0]
    text = f"engine {first.engine_id} cannot load it: {first.reason}"
    if first.detail:
        text += f" ({first.detail})"
    is_against = first.reason not in _BYTES_REASONS
    return CandidateRefused("engine_refused_to_load", text, is_against=is_against)


async def _neighbours(context: StepContext, engine: EngineReport, *, without: str) -> list[str]:
    """The base, and live versions that this engine has proven: company for the batches."""
    live = await context.repository.versions.all(states=frozenset({State.LIVE}))
    proven = {item.name for item in engine.versions if item.state is VersionState.PROVEN}
    names = [context.settings.fleet, *(row.id for row in live if row.id in proven)]
    return [name for name in names if name != without][:_MAX_NEIGHBOURS]


def _to_candidate_answers(
    answers: dict[int, dict[str, Answer]], asked: Sequence[Prompt]
) -> tuple[CandidateAnswer, ...]:
    return tuple(
        CandidateAnswer(
            case_id=prompt.case_id,
            repeat=repeat,
            prompt_token_ids=prompt.token_ids,
            token_ids=by_case[prompt.case_id].token_ids,
            logprobs=by_case[prompt.case_id].logprobs,
            text=by_case[prompt.case_id].text,
        )
        for repeat, by_case in sorted(answers.items())
        for prompt in asked
    )
