"""The verdict on answers and tasks: what is proven, what is open, and what is only told."""

from __future__ import annotations

from typing import Any

from adapters.parity.comparison import ComparisonRules
from adapters.parity.contamination import ContaminationReport, ContaminationRules, Leak
from adapters.parity.export_evidence import (
    NO_EVIDENCE,
    ExportEvidence,
    ExportFinding,
    ExportStatus,
)
from adapters.parity.gate_plan import measure
from adapters.parity.policy import GatePolicy
from adapters.parity.task_measure import TaskInputs
from adapters.parity.verdict import Verdict, VerdictKind, decide
from tests.builders.parity_cases import inputs
from tests.builders.task_cases import answered, gold_cases

MANY = gold_cases({"refund_flow": 47, **{f"segment{i:02}": 50 for i in range(23)}, "tiny": 3})


def judge(task: TaskInputs, policy: GatePolicy | None = None, **changes: Any) -> Verdict:
    chosen = policy or GatePolicy()
    rules = ComparisonRules(
        min_cases=chosen.min_cases, segment_thresholds=chosen.segment_thresholds, n_resamples=500
    )
    return decide(measure(inputs(task=task, rules=rules, **changes)), chosen)


def codes(verdict: Verdict) -> list[str]:
    return [reason.code for reason in verdict.reasons]


def names(n: int, segment: str = "refund_flow") -> list[str]:
    return [f"{segment}-{i}" for i in range(n)]


def test_answers_that_are_all_right_pass_and_say_what_the_suite_could_have_seen() -> None:
    verdict = judge(answered(MANY))

    assert verdict.kind is VerdictKind.PASS
    assert {"detectable", "segments_not_gated"} <= {note.code for note in verdict.notes}
    small = next(note for note in verdict.notes if note.code == "segments_not_gated")
    assert "tiny" in small.text


def test_a_segment_made_worse_fails_by_name_though_the_total_is_unchanged() -> None:
    worse, better = names(14), [f"segment{i:02}-0" for i in range(14)]

    verdict = judge(answered(MANY, wrong_engine=worse, wrong_standalone=better))

    assert verdict.kind is VerdictKind.FAIL
    assert codes(verdict) == ["task_regression"]
    assert "refund_flow" in verdict.reasons[0].text
    assert "14 cases worse" in verdict.reasons[0].text


def test_the_same_against_the_live_version_fails_for_that_reason() -> None:
    worse, better = names(14), [f"segment{i:02}-0" for i in range(14)]

    verdict = judge(answered(MANY, wrong_engine=worse, wrong_standalone=worse, wrong_live=better))

    assert codes(verdict) == ["regression_against_live"]
    assert "acme/support@1" in verdict.reasons[0].text


def test_one_case_that_moves_in_a_segment_is_told_and_does_not_block() -> None:
    verdict = judge(answered(MANY, wrong_engine=names(1), wrong_standalone=["segment03-1"]))

    assert verdict.kind is VerdictKind.PASS
    assert "segment_drop_not_proven" in {note.code for note in verdict.notes}


def test_a_total_that_fell_beyond_the_margin_unproven_leaves_the_question_open() -> None:
    cases = gold_cases({"a": 60})

    verdict = judge(answered(cases, wrong_engine=["a-0"]))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == ["regression_not_excluded"]


def test_too_few_gold_cases_prove_nothing() -> None:
    verdict = judge(answered(gold_cases({"a": 12})))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert codes(verdict) == ["too_few_gold_cases"]
    assert "12 cases" in verdict.reasons[0].text


def test_a_segment_under_its_threshold_fails_whatever_the_standalone_model_does() -> None:
    policy = GatePolicy(segment_thresholds={"refund_flow": 0.85})
    wrong = names(12)

    verdict = judge(answered(MANY, wrong_engine=wrong, wrong_standalone=wrong), policy)

    assert codes(verdict) == ["below_threshold"]
    assert "85.0%" in verdict.reasons[0].text


def test_a_threshold_that_no_case_can_reach_is_told() -> None:
    verdict = judge(answered(MANY), GatePolicy(segment_thresholds={"nosuch": 0.5}))

    assert "threshold_without_cases" in {note.code for note in verdict.notes}


def test_repeats_whose_pass_rates_spread_are_no_measurement() -> None:
    cases = gold_cases({"a": 60})

    verdict = judge(answered(cases, wrong_in_one_repeat=["a-0", "a-1"]))

    assert verdict.kind is VerdictKind.INCONCLUSIVE
    assert "repeats_spread" in codes(verdict)


def _contaminated(n_leaked: int) -> ContaminationReport:
    leaks = tuple(Leak(f"c{i}", i + 1, 0.9) for i in range(n_leaked))
    return ContaminationReport(
        n_cases=1000, n_documents=10, rules=ContaminationRules(), leaks=leaks, sweep=()
    )


def test_a_contaminated_suite_fails_with_the_fraction() -> None:
    verdict = judge(answered(MANY), contamination=_contaminated(60))

    assert codes(verdict) == ["suite_contaminated"]
    assert "6.00%" in verdict.reasons[0].text


def test_few_leaked_cases_are_left_out_and_told() -> None:
    verdict = judge(answered(MANY), contamination=_contaminated(3), n_excluded=3)

    assert verdict.kind is VerdictKind.PASS
    assert any(note.code == "cases_excluded" and "3 cases" in note.text for note in verdict.notes)


# Who vouches for the files, where no fingerprint does


def required(**changes: Any) -> GatePolicy:
    return GatePolicy(require_export_evidence=True, **changes)


def test_with_nothing_from_outside_a_policy_that_asks_for_it_holds() -> None:
    verdict = judge(answered(MANY), required(), export=NO_EVIDENCE)

    assert codes(verdict) == ["export_evidence_required"]


def test_gold_above_its_thresholds_vouches() -> None:
    policy = required(segment_thresholds={"refund_flow": 0.9})

    verdict = judge(answered(MANY), policy, export=NO_EVIDENCE)

    assert verdict.kind is VerdictKind.PASS
    assert any("Gold answers vouch" in note.text for note in verdict.notes)


def test_a_live_version_that_does_no_better_vouches() -> None:
    verdict = judge(answered(MANY, wrong_live=[]), required(), export=NO_EVIDENCE)

    assert verdict.kind is VerdictKind.PASS
    assert any("acme/support@1" in note.text for note in verdict.notes)


def test_a_deployments_answers_vouch_only_when_they_were_asked() -> None:
    asked = judge(answered(MANY), required(), export=NO_EVIDENCE, runner="openai")
    merged = judge(answered(MANY), required(), export=NO_EVIDENCE, runner="merged")

    assert asked.kind is VerdictKind.PASS
    assert codes(merged) == ["export_evidence_required"]


def test_a_fingerprint_that_speaks_against_the_files_is_not_outvoted() -> None:
    finding = ExportFinding("export_alpha_changed", "q_proj", 16, 32, "alpha is not the trained")
    against = ExportEvidence(ExportStatus.MISMATCHED, (finding,), n_modules=14)

    verdict = judge(answered(MANY, wrong_live=[]), export=against)

    assert codes(verdict) == ["export_alpha_changed"]
