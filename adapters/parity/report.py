"""What is kept of an evaluation: the JSON report. Pure.

The report is complete: with it and the artifact a verdict can be computed again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from adapters.parity.comparison import detectable_sentence
from adapters.parity.contamination import Excluded
from adapters.parity.gate_plan import GateInputs, Measurements, NoiseFloor
from adapters.parity.numeric import NumericTotals, resolution_of, total
from adapters.parity.policy import ResolvedPolicy
from adapters.parity.protocol import BaseFacts
from adapters.parity.report_rows import case_rows, divergence_rows
from adapters.parity.suite import Suite
from adapters.parity.task_measure import CaseTask, TaskMeasurements, count_equality, summarise_sides
from adapters.parity.verdict import Verdict
from adapters.parity.vouching import vouch

REPORT_FORMAT = 2


@dataclass(frozen=True, slots=True)
class ReportContext:
    """Who and what was judged, and with what; ids and digests, no secrets."""

    version: str
    adapter_digest: str
    suite: Suite
    """Without the excluded cases."""
    base: BaseFacts
    policy: ResolvedPolicy
    suite_id: str | None = None
    suite_digest: str | None = None
    """Of the suite as it was stored, excluded cases included."""
    excluded: tuple[Excluded, ...] = ()
    engine_id: str | None = None
    engine_build: str | None = None
    started_at: str | None = None
    """ISO 8601 in UTC; the caller owns the clock."""
    seconds_by_stage: Mapping[str, float] = field(default_factory=dict)
    reused_stages: tuple[str, ...] = ()
    """Their results were there already: of an earlier try, or of the same content."""


def build_report(
    context: ReportContext, *, inputs: GateInputs, measured: Measurements, verdict: Verdict
) -> dict[str, Any]:
    """The report as JSON values; the first entry says what vouches for the files."""
    policy = context.policy.policy
    vouching = vouch(measured, policy)
    return {
        "first_line": vouching.line,
        "format": REPORT_FORMAT,
        "version": context.version,
        "adapter_digest": context.adapter_digest,
        "verdict": verdict.kind.value,
        "reasons": [item.to_json() for item in verdict.reasons],
        "notes": [item.to_json() for item in verdict.notes],
        "proves": context.suite.proves,
        "vouched_by": vouching.by.value,
        **_provenance(context, measured),
        "policy": policy.to_json(),
        "policy_source": [item.to_json() for item in context.policy.applied],
        "policy_sources": context.policy.to_json()["sources"],
        "resolution": resolution_of(measured.dtype)._asdict(),
        "excluded": [item.to_json() for item in context.excluded],
        "contamination": measured.contamination.to_json() if measured.contamination else None,
        "controls": _controls(measured),
        "numeric": _totals(measured.numeric),
        "distributions": measured.distributions.to_json(),
        "answer": asdict(count_equality(measured.task.cases)),
        "segments": _segments(context.suite, measured),
        "task": _task(measured.task),
        "detectable": _detectable(measured.task),
        "judge": measured.judge.to_json() if measured.judge else None,
        "export": {
            "status": measured.export.status.value,
            "n_modules": measured.export.n_modules,
            "n_answers": measured.export.n_answers,
            "findings": [item.to_json() for item in measured.export.findings],
        },
        "load_problem": measured.load_problem,
        "non_finite_cases": list(measured.non_finite_cases),
        "divergences": divergence_rows(context.suite, inputs, measured),
        "cases": case_rows(context.suite, inputs, measured),
    }


def _provenance(context: ReportContext, measured: Measurements) -> dict[str, Any]:
    base = context.base
    return {
        "suite": {
            "id": context.suite_id,
            "digest": context.suite_digest or context.suite.digest,
            "is_builtin": context.suite.is_builtin,
            "n_cases": len(context.suite.cases),
            "n_excluded": len(context.excluded),
        },
        "base": {
            "model": base.model,
            "revision": base.revision,
            "dtype": base.dtype,
            "n_parameters": base.n_parameters,
        },
        "engine": {"id": context.engine_id, "build": context.engine_build},
        "runner": measured.runner,
        "versions": dict(base.versions),
        "seed": context.policy.policy.seed,
        "started_at": context.started_at,
        "seconds_by_stage": dict(context.seconds_by_stage),
        "reused_stages": list(context.reused_stages),
    }


def _totals(totals: NumericTotals) -> dict[str, Any]:
    return {**asdict(totals), "token_agreement": totals.token_agreement}


def _controls(measured: Measurements) -> dict[str, Any]:
    floor: NoiseFloor | None = measured.floor
    repeats, rates = measured.repeats, measured.task.pass_rates
    return {
        "negative": None
        if floor is None
        else {
            "engine_build": floor.engine_build,
            "base_revision": floor.base_revision,
            "dtype": floor.dtype,
            "suite_digest": floor.suite_digest,
            "totals": _totals(floor.totals),
        },
        "positive": {"effect_nats": measured.effect_nats},
        "repeat": {
            **asdict(repeats),
            "token_agreement": repeats.token_agreement,
            "pass_rates": None if rates is None else list(rates),
        },
    }


def _segments(suite: Suite, measured: Measurements) -> list[dict[str, Any]]:
    names = list(dict.fromkeys(case.segment for case in suite.cases))
    segment_of = {case.id: case.segment for case in suite.cases}
    by_segment: dict[str, list[CaseTask]] = {name: [] for name in names}
    for task in measured.task.cases:
        by_segment[task.segment].append(task)
    numbers: dict[str, list[Any]] = {name: [] for name in names}
    for item in measured.per_answer:
        numbers[segment_of[item.case_id]].append(item)
    return [
        {
            "segment": name,
            "n": sum(segment == name for segment in segment_of.values()),
            "numeric": _totals(total(numbers[name])),
            "answer": asdict(count_equality(by_segment[name])),
            "metrics": summarise_sides(by_segment[name]),
        }
        for name in sorted(names)
    ]


def _task(task: TaskMeasurements) -> dict[str, Any] | None:
    if not task.n_gold:
        return None
    return {
        "n_gold": task.n_gold,
        "n_scored": task.n_scored,
        "metrics": summarise_sides(task.cases),
        "serving": task.serving.to_json() if task.serving else None,
        "live": task.live.to_json() if task.live else None,
        "live_version": task.live_version,
    }


def _detectable(task: TaskMeasurements) -> dict[str, Any] | None:
    if task.serving is None:
        return None
    return {
        "effect": task.serving.minimum_detectable_effect,
        "sentence": detectable_sentence(task.serving),
    }


def give_up_report(
    *, version: str, adapter_digest: str, verdict: Verdict, notes: Sequence[Any] = ()
) -> dict[str, Any]:
    """The report of an evaluation in which nothing could be measured; it says only why."""
    return {
        "first_line": verdict.reasons[0].text,
        "format": REPORT_FORMAT,
        "version": version,
        "adapter_digest": adapter_digest,
        "verdict": verdict.kind.value,
        "reasons": [item.to_json() for item in verdict.reasons],
        "notes": [item.to_json() for item in notes],
    }
