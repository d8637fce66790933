import math
from dataclasses import replace

import pytest

from adapters.parity.export_evidence import (
    NO_EVIDENCE,
    ExportEvidence,
    ExportFinding,
    ExportStatus,
)
from adapters.parity.gate_plan import measure
from adapters.parity.policy import GatePolicy
from adapters.parity.protocol import EffectRow, VerifyRow
from adapters.parity.verdict import Verdict, VerdictKind, decide
from tests.builders.parity_cases import answer, floor, inputs, row_for


def judged(given, policy: GatePolicy | None = None) -> Verdict:
    return decide(measure(given), policy or GatePolicy())


def codes(verdict: Verdict) -> set[str]:
    return {reason.code for reason in verdict.reasons}


def test_a_candidate_that_agrees_and_has_an_effect_passes():
    verdict = judged(inputs())

    assert verdict.kind is VerdictKind.PASS
    assert codes(verdict) == {"parity"}
    assert verdict.notes == ()


def test_a_pass_without_a_fingerprint_says_that_nothing_vouches_for_the_files():
    verdict = judged(inputs(export=NO_EVIDENCE))

    assert verdict.kind is VerdictKind.PASS
    assert [note.code for note in verdict.notes] == ["export_evidence_absent"]


def test_required_evidence_that_is_absent_is_inconclusive():
    verdict = judged(inputs(export=NO_EVIDENCE), GatePolicy(require_export_evidence=True))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"export_evidence_required"}


def test_a_strict_load_problem_fails():
    verdict = judged(inputs(load_problem="3 tensors are missing", answers=(), rows={}))

    assert verdict.kind is VerdictKind.FAIL
    assert verdict.reasons[0].code == "strict_load_failed"


def test_a_value_that_is_not_finite_fails_even_where_all_else_agrees():
    effects = (EffectRow("case-3", False),)

    verdict = judged(inputs(effects=effects))

    assert verdict.kind is VerdictKind.FAIL
    assert "case-3" in verdict.reasons[0].text


def test_a_standalone_pass_over_the_answer_that_is_not_finite_fails():
    good = inputs()
    rows = dict(good.rows)
    rows[answer(2).item] = VerifyRow("case-2", False)

    verdict = judged(replace(good, rows=rows))

    assert verdict.kind is VerdictKind.FAIL
    assert codes(verdict) == {"not_finite"}


def test_an_export_mismatch_fails_under_its_own_name():
    finding = ExportFinding("export_alpha_changed", "m", 4.0, 2.0, "alpha was changed")
    evidence = ExportEvidence(ExportStatus.MISMATCHED, (finding,))

    verdict = judged(inputs(export=evidence))

    assert verdict.kind is VerdictKind.FAIL
    assert codes(verdict) == {"export_alpha_changed"}


def test_undecided_export_evidence_is_inconclusive():
    finding = ExportFinding("export_tokens_differ", None, 1, 0, "differs", is_mismatch=False)
    evidence = ExportEvidence(ExportStatus.UNDECIDED, (finding,))

    verdict = judged(inputs(export=evidence))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"export_tokens_differ"}


def test_disagreement_beyond_the_floor_with_real_divergences_fails():
    verdict = judged(inputs(row={"delta": 0.3, "divergent": {2: 1.0}}))

    assert verdict.kind is VerdictKind.FAIL
    assert codes(verdict) == {"engine_disagrees"}


def test_disagreement_is_judged_against_the_measured_floor():
    noisy = {"row": {"delta": 0.02, "divergent": {2: 1.0}}}

    quiet_floor = judged(inputs(**noisy))
    noisy_floor = judged(inputs(**noisy, floor=floor(delta=0.01)))

    assert quiet_floor.kind is VerdictKind.FAIL
    assert noisy_floor.kind is VerdictKind.INCONCLUSIVE


def test_drift_without_real_divergences_is_inconclusive():
    verdict = judged(inputs(row={"delta": 0.3}))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"numeric_drift"}


def test_a_real_divergence_within_the_floor_is_inconclusive():
    verdict = judged(inputs(row={"divergent": {2: 1.0}}))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"real_divergences"}


def test_the_candidates_own_noise_explains_a_margin_of_twice_its_size_and_no_more():
    # A strong adapter makes large logits, and rounding is as coarse as they are large.
    strong = {"dtype": "bfloat16", "floor": floor(delta=0.1, dtype="bfloat16")}

    explained = judged(inputs(**strong, row={"delta": 0.2, "divergent": {2: 0.39}}))
    unexplained = judged(inputs(**strong, row={"delta": 0.2, "divergent": {2: 0.41}}))

    assert explained.kind is VerdictKind.PASS
    assert codes(unexplained) == {"real_divergences"}


def test_a_near_tie_does_not_stand_in_the_way():
    verdict = judged(inputs(dtype="bfloat16", row={"delta": 0.008, "divergent": {2: 0.2}}))

    assert verdict.kind is VerdictKind.PASS


@pytest.mark.parametrize("effect", [0.0, 1e-4, None])
def test_an_effect_that_the_floor_hides_is_inconclusive(effect):
    verdict = judged(inputs(row={"effect": effect}, effects=()))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) <= {"inert_or_blind", "effect_undefined"}


def test_without_a_noise_floor_nothing_passes_and_nothing_is_blamed():
    verdict = judged(inputs(floor=None, row={"delta": 0.3, "divergent": {2: 1.0}}))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert "noise_floor_undefined" in codes(verdict)


def test_a_base_that_disagrees_with_its_own_reference_blames_nobody():
    verdict = judged(inputs(floor=floor(delta=0.5), row={"delta": 3.0, "divergent": {2: 1.0}}))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert "base_disagrees" in codes(verdict)


def test_a_floor_of_another_number_type_is_no_floor():
    verdict = judged(inputs(floor=floor(dtype="bfloat16")))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"noise_floor_undefined"}


def test_a_floor_without_tokens_is_no_floor():
    verdict = judged(inputs(floor=floor(n_cases=0)))

    assert codes(verdict) == {"noise_floor_undefined"}


def test_one_repeat_says_nothing_about_determinism():
    verdict = judged(inputs(n_repeats=1))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"repeats_undefined"}
    assert "2 are needed" in verdict.reasons[0].text


def test_repeats_that_disagree_are_inconclusive():
    good = inputs()
    others = tuple(
        replace(item, token_ids=(9, *item.token_ids[1:])) if item.repeat == 2 else item
        for item in good.answers
    )
    rows = {item.item: row_for(item.item) for item in others}

    verdict = judged(replace(good, answers=others, rows=rows))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"engine_not_deterministic"}


def test_too_few_cases_are_inconclusive():
    verdict = judged(inputs(n_cases=7))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == {"too_few_cases"}


def test_a_case_that_was_not_answered_every_time_is_inconclusive():
    good = inputs()
    answers = tuple(a for a in good.answers if (a.case_id, a.repeat) != ("case-5", 1))

    verdict = judged(replace(good, answers=answers))

    assert codes(verdict) == {"unanswered_cases"}


def test_no_answer_at_all_is_inconclusive():
    verdict = judged(inputs(answers=(), rows={}))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert {"unanswered_cases", "undefined_numbers", "repeats_undefined"} <= codes(verdict)


def test_a_number_that_is_nan_never_passes():
    measured = measure(inputs())
    for broken in (
        replace(measured, effect_nats=math.nan),
        replace(measured, numeric=replace(measured.numeric, mean_delta_nats=math.nan)),
    ):
        assert decide(broken, GatePolicy()).kind is not VerdictKind.PASS
