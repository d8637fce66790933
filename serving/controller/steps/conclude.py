"""The end of an evaluation: verdict, load probe and report, written in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec

from adapters.parity.gate_plan import GateInputs, Measurements, measure
from adapters.parity.protocol import BaseFacts
from adapters.parity.report import REPORT_FORMAT, ReportContext, build_report, select_probe
from adapters.parity.suite import Suite
from adapters.parity.verdict import Policy, Verdict, VerdictKind, decide
from serving import contract, settings
from serving.controller import lifecycle
from serving.controller.registry.tables import VersionRow
from serving.controller.steps.context import StepContext
from serving.controller.steps.lease import Lease
from serving.controller.steps.outcome import Done, Outcome

FINITENESS_PROBE = contract.Probe(cases=[], max_mean_delta_nats=0.0, tie_margin_nats=0.0)
"""For a version without PASS that somebody promotes all the same: finite, whatever it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """What the gate observed. `verdict` set: decided already, by something that is no number."""

    row: VersionRow
    suite: Suite
    base: BaseFacts
    inputs: GateInputs
    started_at: float
    seconds_by_stage: Mapping[str, float] = field(default_factory=dict)
    engine: contract.EngineReport | None = None
    verdict: Verdict | None = None


def policy_of(chosen: settings.ControllerSettings) -> Policy:
    """The operator's settings as the verdict's policy."""
    return Policy(
        min_cases=chosen.gate_min_cases,
        noise_factor=chosen.gate_noise_factor,
        effect_factor=chosen.gate_effect_factor,
        min_repeats=min(2, chosen.gate_repeats),
        require_export_evidence=chosen.require_export_evidence,
    )


async def conclude(context: StepContext, lease: Lease, evaluated: Evaluated) -> Outcome:
    """Judge, choose the probe, and store everything with the move."""
    policy = policy_of(context.settings)
    measured = measure(evaluated.inputs)
    verdict = evaluated.verdict or decide(measured, policy)
    probe = FINITENESS_PROBE
    if verdict.kind is VerdictKind.PASS:
        probe = _probe(evaluated.inputs, measured)
    engine = evaluated.engine
    about = ReportContext(
        version=evaluated.row.id,
        adapter_digest=evaluated.row.digest,
        suite=evaluated.suite,
        base=evaluated.base,
        engine_id=engine.engine_id if engine else None,
        engine_build=engine.build if engine else None,
        started_at=datetime.fromtimestamp(evaluated.started_at, UTC).isoformat(),
        seconds_by_stage=evaluated.seconds_by_stage,
    )
    report = build_report(
        about, inputs=evaluated.inputs, measured=measured, policy=policy, verdict=verdict
    )
    return await _store(context, lease, verdict, report=report, probe=probe)


async def give_up(
    context: StepContext, row: VersionRow, lease: Lease, *, verdict: Verdict
) -> Outcome:
    """Conclude where nothing could be measured at all; the report says only why."""
    report = {
        "first_line": verdict.reasons[0].text,
        "format": REPORT_FORMAT,
        "version": row.id,
        "adapter_digest": row.digest,
        "verdict": verdict.kind.value,
        "reasons": _reasons(verdict),
        "notes": [],
    }
    return await _store(context, lease, verdict, report=report, probe=FINITENESS_PROBE)


async def _store(
    context: StepContext,
    lease: Lease,
    verdict: Verdict,
    *,
    report: dict[str, Any],
    probe: contract.Probe,
) -> Outcome:
    kind = lifecycle.Verdict(verdict.kind.value)
    is_written = await context.repository.work.conclude(
        lease.version_id,
        lease.token,
        verdict=kind,
        report=report,
        probe=msgspec.to_builtins(probe),
        evidence={"reasons": _reasons(verdict)},
    )
    if is_written:
        context.metrics.gate_verdicts.labels(kind.value).inc()
    return Done()


def _reasons(verdict: Verdict) -> list[dict[str, str]]:
    return [{"code": reason.code, "text": reason.text} for reason in verdict.reasons]


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
