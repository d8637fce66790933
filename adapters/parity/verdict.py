"""PASS, FAIL or INCONCLUSIVE: one pure function of (measurements, policy).

FAIL needs positive evidence against the adapter, PASS needs every control valid and nothing against
it; everything else, above all anything undefined, is INCONCLUSIVE.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from adapters.parity.export_evidence import ExportStatus
from adapters.parity.gate_plan import Measurements, NoiseFloor
from adapters.parity.numeric import resolution_of
from adapters.parity.policy import GatePolicy
from adapters.parity.reasons import Reason
from adapters.parity.verdict_judge import judge_against, judge_notes, judge_open_questions
from adapters.parity.verdict_task import (
    suite_against,
    task_against,
    task_notes,
    task_open_questions,
)
from adapters.parity.vouching import vouch


class VerdictKind(StrEnum):
    """The three answers of the gate."""

    PASS = "PASS"  # noqa: S105 - a verdict
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's answer. `notes` inform and decide nothing."""

    kind: VerdictKind
    reasons: tuple[Reason, ...]
    notes: tuple[Reason, ...] = ()


def decide(measured: Measurements, policy: GatePolicy) -> Verdict:
    """Judge a candidate. Never PASS with an invalid or undefined control, or with a finding."""
    notes = tuple(_notes(measured, policy))
    against = tuple(_against(measured, policy))
    if against:
        return Verdict(VerdictKind.FAIL, against, notes)
    open_questions = tuple(_open_questions(measured, policy))
    if open_questions:
        return Verdict(VerdictKind.INCONCLUSIVE, open_questions, notes)
    agreement = measured.numeric.token_agreement
    text = (
        f"{measured.numeric.n_answers} answers to {measured.n_cases} cases: "
        f"{agreement:.2%} of {measured.numeric.n_tokens} tokens equal, mean difference "
        f"{measured.numeric.mean_delta_nats:.3g} nats; effect {measured.effect_nats:.3g} nats"
    )
    return Verdict(VerdictKind.PASS, (Reason("parity", text),), notes)


def _against(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    if measured.load_problem is not None:
        yield Reason("strict_load_failed", measured.load_problem)
    if measured.non_finite_cases:
        cases = ", ".join(measured.non_finite_cases[:5])
        text = f"values that are not finite in {len(measured.non_finite_cases)} cases: {cases}"
        yield Reason("not_finite", text)
    for finding in measured.export.findings:
        if finding.is_mismatch:
            yield Reason(finding.code, finding.text)
    yield from suite_against(measured)
    if is_valid_floor(measured.floor, policy, dtype=measured.dtype):
        yield from _disagrees(measured, policy)
    yield from task_against(measured)
    yield from judge_against(measured)


def _disagrees(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    mean, real = measured.numeric.mean_delta_nats, measured.numeric.n_real_divergences
    allowed = policy.noise_factor * _floor_nats(measured)
    if mean is not None and mean > allowed and real:
        text = (
            f"engine and standalone model disagree: mean {mean:.3g} nats, allowed {allowed:.3g} "
            f"({policy.noise_factor:g} x noise floor), {real} divergences beyond near-ties"
        )
        yield Reason("engine_disagrees", text)


def is_valid_floor(floor: NoiseFloor | None, policy: GatePolicy, *, dtype: str) -> bool:
    """Whether the negative control holds: the base agrees with its own reference."""
    if floor is None or floor.dtype != dtype or floor.totals.mean_delta_nats is None:
        return False
    totals = floor.totals
    return (
        totals.n_non_finite == 0
        and totals.n_tokens > 0
        and 0.0 <= floor.totals.mean_delta_nats <= policy.max_floor_nats
    )


def _open_questions(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    yield from _too_little(measured, policy)
    yield from _negative_control(measured, policy)
    yield from _positive_control(measured, policy)
    yield from _repeat_control(measured, policy)
    yield from _unexplained(measured, policy)
    yield from task_open_questions(measured, policy)
    yield from judge_open_questions(measured, policy)
    yield from _export(measured, policy)


def _too_little(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    if measured.n_cases < policy.min_numeric_cases:
        text = f"the suite has {measured.n_cases} cases, {policy.min_numeric_cases} are needed"
        yield Reason("too_few_cases", text)
    if measured.n_answered_cases < measured.n_cases or not measured.n_cases:
        text = f"{measured.n_answered_cases} of {measured.n_cases} cases were answered every time"
        yield Reason("unanswered_cases", text)
    if measured.numeric.mean_delta_nats is None or measured.numeric.token_agreement is None:
        yield Reason("undefined_numbers", "there is no token to compare")


def _negative_control(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    floor = measured.floor
    if floor is None or floor.totals.mean_delta_nats is None:
        yield Reason("noise_floor_undefined", "the noise floor was not measured")
    elif floor.dtype != measured.dtype:
        text = f"the noise floor is of {floor.dtype}, the candidate ran in {measured.dtype}"
        yield Reason("noise_floor_undefined", text)
    elif not is_valid_floor(floor, policy, dtype=measured.dtype):
        text = (
            f"the base itself disagrees with its reference: mean "
            f"{floor.totals.mean_delta_nats:.3g} nats, allowed {policy.max_floor_nats:g}; "
            f"{floor.totals.n_non_finite} answers not finite"
        )
        yield Reason("base_disagrees", text)


def _positive_control(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    effect, needed = measured.effect_nats, policy.effect_factor * _floor_nats(measured)
    if effect is None:
        yield Reason("effect_undefined", "the adapter's effect against the base was not measured")
    elif not effect >= needed:
        text = (
            f"inert adapter or blind suite: the adapter moves answers by {effect:.3g} nats, "
            f"{needed:.3g} ({policy.effect_factor:g} x noise floor) are needed to see it"
        )
        yield Reason("inert_or_blind", text)


def _repeat_control(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    repeats = measured.repeats
    agreement = repeats.token_agreement
    if repeats.n_repeats < policy.min_repeats or agreement is None:
        # One alone has nothing to be compared with, whatever the policy asks for.
        needed = max(2, policy.min_repeats)
        text = f"{repeats.n_repeats} comparable repeats, {needed} are needed (setting gate_repeats)"
        yield Reason("repeats_undefined", text)
        return
    allowed = policy.noise_factor * _floor_disagreement(measured)
    if not 1.0 - agreement <= allowed:
        text = (
            f"the engine is not deterministic enough: repeats disagree in {1 - agreement:.2%} of "
            f"tokens, allowed {allowed:.2%}"
        )
        yield Reason("engine_not_deterministic", text)


def _unexplained(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    mean, unexplained = measured.numeric.mean_delta_nats, measured.n_unexplained
    allowed = policy.noise_factor * _floor_nats(measured)
    if unexplained:
        text = (
            f"{unexplained} tokens are not the standalone model's choice, by margins that neither "
            f"near-ties nor the candidate's own noise explain"
        )
        yield Reason("real_divergences", text)
    if mean is not None and not mean <= allowed:
        text = f"mean difference {mean:.3g} nats is beyond {allowed:.3g}, without real divergences"
        yield Reason("numeric_drift", text)


def _export(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    vouching = vouch(measured, policy)
    if measured.export.status is ExportStatus.UNDECIDED and not vouching.is_independent:
        for finding in measured.export.findings:
            yield Reason(finding.code, finding.text)
    elif policy.require_export_evidence and not vouching.is_independent:
        yield Reason("export_evidence_required", vouching.line)


def _notes(measured: Measurements, policy: GatePolicy) -> Iterator[Reason]:
    vouching = vouch(measured, policy)
    if measured.export.status is ExportStatus.ABSENT:
        is_silent = not vouching.is_independent
        code = "export_evidence_absent" if is_silent else "export_fingerprint_absent"
        yield Reason(code, vouching.line)
    yield from task_notes(measured)
    yield from judge_notes(measured)


def _floor_nats(measured: Measurements) -> float:
    """The measured floor, or what the number type can tell apart where that is coarser."""
    resolution = resolution_of(measured.dtype).mean_delta_nats
    floor = measured.floor.totals.mean_delta_nats if measured.floor else None
    return resolution if floor is None else max(floor, resolution)


def _floor_disagreement(measured: Measurements) -> float:
    resolution = resolution_of(measured.dtype).token_disagreement
    agreement = measured.floor.totals.token_agreement if measured.floor else None
    return resolution if agreement is None else max(1.0 - agreement, resolution)
