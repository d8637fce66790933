"""The end of an evaluation: verdict, load probe and report, written in one transaction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from adapters.parity.gate_plan import GateInputs, Measurements, measure
from adapters.parity.policy import OnInconclusive, ResolvedPolicy
from adapters.parity.probe_choice import select_probe
from adapters.parity.protocol import BaseFacts
from adapters.parity.report import ReportContext, build_report, give_up_report
from adapters.parity.verdict import Verdict, VerdictKind, decide
from serving import contract
from serving.controller import lifecycle
from serving.controller.registry.tables import VersionRow
from serving.controller.staleness import Proof
from serving.controller.steps.asked import Asked
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.outcome import Done, Outcome

FINITENESS_PROBE = contract.Probe(cases=[], max_mean_delta_nats=0.0, tie_margin_nats=0.0)
"""For a version without PASS that somebody promotes all the same: finite, whatever it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What the gate observed. `verdict` set: decided already, by something that is no number."""

    row: VersionRow
    asked: Asked
    base: BaseFacts
    policy: ResolvedPolicy
    inputs: GateInputs
    started_at: float
    seconds_by_stage: Mapping[str, float] = field(default_factory=dict)
    reused_stages: tuple[str, ...] = ()
    spent_results: tuple[str, ...] = ()
    """Keys of kept results that no other evaluation can use."""
    engine: contract.EngineReport | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdict, report and load probe of one evaluation."""

    verdict: Verdict
    report: dict[str, Any]
    probe: contract.Probe | None


def judge_evaluation(evaluated: Evaluated) -> Judged:
    """Turn what was observed into numbers, a verdict, and what is kept of both."""
    began = time.perf_counter()
    measured = measure(evaluated.inputs)
    verdict = evaluated.verdict or decide(measured, evaluated.policy.policy)
    seconds = dict(evaluated.seconds_by_stage)
    seconds["score"] = time.perf_counter() - began
    seconds["total"] = seconds.get("total", 0.0) + seconds["score"]
    probe = FINITENESS_PROBE
    if verdict.kind is VerdictKind.PASS:
        probe = _probe(evaluated.inputs, measured)
    engine, asked = evaluated.engine, evaluated.asked
    about = ReportContext(
        version=evaluated.row.id,
        adapter_digest=evaluated.row.digest,
        suite=asked.suite,
        base=evaluated.base,
        policy=evaluated.policy,
        suite_id=asked.suite_id,
        suite_digest=asked.stored_digest,
        excluded=asked.excluded,
        engine_id=engine.engine_id if engine else None,
        engine_build=engine.build if engine else None,
        started_at=datetime.fromtimestamp(evaluated.started_at, UTC).isoformat(),
        seconds_by_stage=seconds,
        reused_stages=evaluated.reused_stages,
    )
    report = build_report(about, inputs=evaluated.inputs, measured=measured, verdict=verdict)
    return Judged(verdict, report, probe)


async def conclude(context: StepContext, lease: Lease, evaluated: Evaluated) -> Outcome:
    """Judge, and store verdict, report and probe with the move."""
    # Ten thousand resamples and thousands of scored answers: not on the loop.
    judged = await asyncio.to_thread(judge_evaluation, evaluated)
    outcome = await _store(
        context,
        lease,
        judged.verdict,
        report=judged.report,
        probe=judged.probe,
        proof=_proof(context, evaluated),
        lenient_policy=_lenient_policy(evaluated),
    )
    for key in evaluated.spent_results:
        await context.store.results.forget(key)
    return outcome


async def give_up(
    context: StepContext, row: VersionRow, lease: Lease, *, verdict: Verdict
) -> Outcome:
    """Conclude where nothing could be measured at all; the report says only why."""
    report = give_up_report(version=row.id, adapter_digest=row.digest, verdict=verdict)
    return await _store(context, lease, verdict, report=report, probe=FINITENESS_PROBE)


async def _store(
    context: StepContext,
    lease: Lease,
    verdict: Verdict,
    *,
    report: dict[str, Any],
    probe: contract.Probe | None,
    proof: Proof | None = None,
    lenient_policy: dict[str, Any] | None = None,
) -> Outcome:
    kind = lifecycle.Verdict(verdict.kind.value)
    is_written = await context.repository.work.conclude(
        lease.version_id,
        lease.token,
        verdict=kind,
        report=report,
        probe=msgspec.to_builtins(probe),
        evidence={"reasons": _reasons(verdict)},
        proof=proof,
        lenient_policy=lenient_policy,
    )
    if is_written:
        context.metrics.gate_verdicts.labels(kind.value).inc()
    return Done()


def _proof(context: StepContext, evaluated: Evaluated) -> Proof | None:
    engine, card = evaluated.engine, context.card
    if engine is None or card is None:
        return None
    return Proof(engine.build, card.revision, engine.dtype)


def _lenient_policy(evaluated: Evaluated) -> dict[str, Any] | None:
    """The policy that lets INCONCLUSIVE go on; never for what no engine has answered."""
    policy = evaluated.policy
    if policy.policy.on_inconclusive is OnInconclusive.HOLD or evaluated.engine is None:
        return None
    return policy.sources["on_inconclusive"].to_json()


def _reasons(verdict: Verdict) -> list[dict[str, str]]:
    return [reason.to_json() for reason in verdict.reasons]


def _probe(inputs: GateInputs, measured: Measurements) -> contract.Probe:
    choice = select_probe(inputs, measured)
    return contract.Probe(
        cases=[
            contract.ProbeCase(
                prompt_token_ids=list(item.prompt_token_ids),
                expected_token_ids=list(item.expected_token_ids),
                expected_logprobs=list(item.expected_logprobs),
            )
            for item in choice.cases
        ],
        max_mean_delta_nats=choice.max_mean_delta_nats,
        tie_margin_nats=choice.tie_margin_nats,
    )
