"""What is kept of an evaluation: the JSON report, and the load probe that engines repeat. Pure.

The report is complete: with it and the artifact a verdict can be computed again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters.parity.gate_plan import GateInputs, Measurements, NoiseFloor
from adapters.parity.numeric import CandidateAnswer, resolution_of
from adapters.parity.protocol import BaseFacts
from adapters.parity.suite import Suite
from adapters.parity.verdict import Policy, Reason, Verdict

REPORT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ReportContext:
    """Who and what was judged, and with what; ids and digests, no secrets."""

    version: str
    adapter_digest: str
    suite: Suite
    base: BaseFacts
    engine_id: str | None = None
    engine_build: str | None = None
    seed: int = 0
    started_at: str | None = None
    """ISO 8601 in UTC; the caller owns the clock."""
    seconds_by_stage: Mapping[str, float] | None = None


def build_report(
    context: ReportContext,
    *,
    inputs: GateInputs,
    measured: Measurements,
    policy: Policy,
    verdict: Verdict,
) -> dict[str, Any]:
    """The report as JSON values; the first entry says what vouches for the files."""
    return {
        "first_line": measured.export.first_line(),
        "format": REPORT_FORMAT,
        "version": context.version,
        "adapter_digest": context.adapter_digest,
        "verdict": verdict.kind.value,
        "reasons": [_reason(item) for item in verdict.reasons],
        "notes": [_reason(item) for item in verdict.notes],
        "proves": context.suite.proves,
        "suite": {
            "digest": context.suite.digest,
            "is_builtin": context.suite.is_builtin,
            "n_cases": len(context.suite.cases),
        },
        "base": {
            "model": context.base.model,
            "revision": context.base.revision,
            "dtype": context.base.dtype,
            "n_parameters": context.base.n_parameters,
        },
        "engine": {"id": context.engine_id, "build": context.engine_build},
        "versions": dict(context.base.versions),
        "seed": context.seed,
        "started_at": context.started_at,
        "seconds_by_stage": dict(context.seconds_by_stage or {}),
        "policy": asdict(policy),
        "resolution": resolution_of(measured.dtype)._asdict(),
        "controls": _controls(measured),
        "numeric": _totals(measured.numeric),
        "export": {
            "status": measured.export.status.value,
            "n_modules": measured.export.n_modules,
            "n_answers": measured.export.n_answers,
            "findings": [item.to_json() for item in measured.export.findings],
        },
        "load_problem": measured.load_problem,
        "non_finite_cases": list(measured.non_finite_cases),
        "cases": _rows(context.suite, inputs, measured),
    }


def _reason(reason: Reason) -> dict[str, str]:
    return {"code": reason.code, "text": reason.text}


def _totals(totals: Any) -> dict[str, Any]:
    return {**asdict(totals), "token_agreement": totals.token_agreement}


def _controls(measured: Measurements) -> dict[str, Any]:
    floor: NoiseFloor | None = measured.floor
    return {
        "negative": None if floor is None else {**floor.to_json(), "totals": _totals(floor.totals)},
        "positive": {"effect_nats": measured.effect_nats},
        "repeat": _totals(measured.repeats),
    }


def _rows(suite: Suite, inputs: GateInputs, measured: Measurements) -> list[dict[str, Any]]:
    numbers = {(item.case_id, item.repeat): item for item in measured.per_answer}
    prompts = {answer.case_id: answer.prompt_token_ids for answer in inputs.answers}
    answers: dict[str, list[dict[str, Any]]] = {}
    for answer in inputs.answers:
        row = inputs.rows[answer.item]
        answers.setdefault(answer.case_id, []).append(
            {
                "repeat": answer.repeat,
                "token_ids": list(answer.token_ids),
                "text": answer.text,
                "engine_logprobs": list(answer.logprobs),
                "standalone_logprobs": list(row.token_logprobs),
                "standalone_argmax": list(row.argmax_ids),
                "numeric": asdict(numbers[answer.case_id, answer.repeat]),
            }
        )
    prompt_effects = {row.case_id: row for row in inputs.effects}
    return [
        {
            "id": case.id,
            "segment": case.segment,
            "prompt_token_ids": list(prompts.get(case.id, ())),
            "effect_nats": measured.effect_by_case.get(case.id),
            "is_finite_alone": prompt_effects[case.id].is_finite
            if case.id in prompt_effects
            else None,
            "answers": answers.get(case.id, []),
        }
        for case in suite.cases
    ]


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """One prompt and the engine's own greedy answer to it."""

    prompt_token_ids: tuple[int, ...]
    expected_token_ids: tuple[int, ...]
    expected_logprobs: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ProbeChoice:
    """What an engine must answer again each time it loads the version."""

    cases: tuple[ProbeAnswer, ...]
    max_mean_delta_nats: float
    tie_margin_nats: float


def select_probe(
    inputs: GateInputs, measured: Measurements, *, n: int = 3, max_tokens: int = 16
) -> ProbeChoice:
    """The `n` cases in which the adapter differs most from the base, with the engine's answers.

    Only answers that every repeat gave and that hold finite numbers; at most `max_tokens` of each,
    since every load pays for them. The allowed difference is ten times the noise floor, but never
    more than half of the smallest chosen effect: a load without the adapter must not pass.
    """
    resolution = resolution_of(measured.dtype)
    stable = _stable_answers(inputs.answers, measured)
    effects = {a.case_id: _effect(inputs, a, max_tokens) for a in stable}
    chosen = sorted(stable, key=lambda a: (-effects[a.case_id], a.case_id))[:n]
    floor = measured.floor.totals.mean_delta_nats if measured.floor else None
    allowed = 10.0 * max(floor or 0.0, resolution.mean_delta_nats)
    visible = [effects[a.case_id] for a in chosen if effects[a.case_id] > 0.0]
    return ProbeChoice(
        cases=tuple(
            ProbeAnswer(a.prompt_token_ids, a.token_ids[:max_tokens], a.logprobs[:max_tokens])
            for a in chosen
        ),
        max_mean_delta_nats=min([allowed, *(effect / 2 for effect in visible)]),
        tie_margin_nats=resolution.tie_margin_nats,
    )


def _effect(inputs: GateInputs, answer: CandidateAnswer, max_tokens: int) -> float:
    """Mean |delta logprob| against the base over the tokens that the probe will keep."""
    row = inputs.rows[answer.item]
    pairs = list(zip(row.token_logprobs, row.base_token_logprobs or (), strict=False))[:max_tokens]
    return math.fsum(abs(a - b) for a, b in pairs) / len(pairs) if pairs else 0.0


def _stable_answers(
    answers: Sequence[CandidateAnswer], measured: Measurements
) -> list[CandidateAnswer]:
    by_case: dict[str, list[CandidateAnswer]] = {}
    for answer in answers:
        by_case.setdefault(answer.case_id, []).append(answer)
    finite = {item.case_id for item in measured.per_answer if item.is_finite}
    return [
        group[0]
        for case_id, group in by_case.items()
        if case_id in finite and group[0].token_ids and len({a.token_ids for a in group}) == 1
    ]
