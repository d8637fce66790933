import json
from dataclasses import replace

import pytest

from adapters.parity.gate_plan import NoiseFloor, floor_key, measure, plan_verification
from adapters.parity.protocol import BaseFacts, EffectRow
from adapters.parity.report import ReportContext, build_report, select_probe
from adapters.parity.suite import Case, Suite
from adapters.parity.verdict import Policy, decide
from tests.builders.parity_cases import answer, floor, inputs, row_for

KEY = {"engine_build": "e", "base_revision": "r", "dtype": "float32", "suite_digest": "s"}


def test_equal_repeats_are_read_once():
    answers = [answer(case, repeat) for repeat in range(3) for case in range(4)]
    other = replace(answer(2, 1), token_ids=(1, 2), logprobs=(-1.0, -1.0))

    plan = plan_verification([*answers, other])

    assert [item.case_id for item in plan] == ["case-0", "case-1", "case-2", "case-3", "case-2"]


def test_a_floor_survives_being_stored_as_json():
    made = floor(delta=0.003)

    assert NoiseFloor.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("changed", list(KEY))
def test_a_floors_key_depends_on_everything_that_the_floor_does(changed):
    assert floor_key(**KEY) == floor_key(**KEY)
    assert floor_key(**{**KEY, changed: "other"}) != floor_key(**KEY)


def test_the_effect_is_measured_on_answers_and_before_them_on_prompts():
    assert measure(inputs()).effect_nats == pytest.approx(1.5)
    early = measure(inputs(answers=(), rows={}))
    assert early.effect_nats == pytest.approx(1.0)
    assert early.effect_by_case["case-0"] == pytest.approx(1.0)
    assert measure(inputs(answers=(), rows={}, effects=())).effect_nats is None


def test_poisoned_cases_are_named_once():
    effects = (EffectRow("case-1", False), EffectRow("case-2", True, 1.0, 1.0))

    assert measure(inputs(effects=effects)).non_finite_cases == ("case-1",)


def test_a_case_counts_as_answered_when_every_repeat_has_tokens():
    good = inputs(n_repeats=2)
    empty = replace(answer(3, 1), token_ids=(), logprobs=())
    answers = tuple(empty if (a.case_id, a.repeat) == ("case-3", 1) else a for a in good.answers)
    rows = {item: row_for(item) for item in plan_verification(answers)}

    assert measure(replace(good, answers=answers, rows=rows)).n_answered_cases == 7


def test_an_answer_that_nobody_read_is_a_bug():
    with pytest.raises(KeyError):
        measure(inputs(rows={}))


# The report


def context(n_cases=8):
    cases = tuple(Case(id=f"case-{n}", prompt="x") for n in range(n_cases))
    base = BaseFacts("m", "r", "float32", 1, {"torch": "2"})
    return ReportContext("acme/support@3", "sha256:d", Suite(cases), base, engine_build="e", seed=4)


def report_of(given):
    measured = measure(given)
    verdict = decide(measured, Policy())
    return build_report(
        context(), inputs=given, measured=measured, policy=Policy(), verdict=verdict
    )


def test_the_report_starts_with_who_vouches_and_holds_everything():
    report = report_of(inputs())

    assert next(iter(report)) == "first_line"
    assert "14 modules" in report["first_line"]
    assert report["verdict"] == "PASS"
    assert report["seed"] == 4
    assert report["versions"] == {"torch": "2"}
    assert report["controls"]["negative"]["totals"]["token_agreement"] == 1.0
    assert report["controls"]["repeat"]["n_repeats"] == 3
    assert [len(case["answers"]) for case in report["cases"]] == [3] * 8
    first = report["cases"][0]["answers"][0]
    assert len(first["engine_logprobs"]) == len(first["standalone_logprobs"]) == 10
    assert first["numeric"]["first_divergence"] is None
    json.dumps(report, allow_nan=False)


def test_a_report_of_what_never_reached_an_engine_is_valid_too():
    report = report_of(inputs(load_problem="bad", answers=(), rows={}, effects=(), floor=None))

    assert report["verdict"] == "FAIL"
    assert report["controls"]["negative"] is None
    assert report["cases"][0]["answers"] == []
    assert report["cases"][0]["is_finite_alone"] is None
    json.dumps(report, allow_nan=False)


# The probe


def probed(given, **kwargs):
    return select_probe(given, measure(given), **kwargs)


def test_the_probe_holds_the_cases_with_the_largest_effect_and_the_engines_answers():
    good = inputs()
    rows = {
        item: row_for(item, effect=float(index)) for index, item in enumerate(good.rows, start=1)
    }

    probe = probed(replace(good, rows=rows), n=3, max_tokens=4)

    assert [case.prompt_token_ids for case in probe.cases] == [(1, 7), (1, 6), (1, 5)]
    assert probe.cases[0].expected_token_ids == (100, 101, 102, 103)
    assert probe.cases[0].expected_logprobs == (-0.5,) * 4
    assert probe.max_mean_delta_nats == pytest.approx(1e-3)
    assert probe.tie_margin_nats > 0


def test_a_load_without_the_adapter_cannot_pass_the_probe():
    probe = probed(inputs(dtype="bfloat16", row={"effect": 0.1}))

    assert probe.max_mean_delta_nats == pytest.approx(0.05)


def test_answers_that_repeats_do_not_share_are_not_probed():
    good = inputs(n_cases=2)
    answers = tuple(
        replace(a, token_ids=(9, *a.token_ids[1:])) if (a.case_id, a.repeat) == ("case-1", 2) else a
        for a in good.answers
    )
    rows = {item: row_for(item) for item in plan_verification(answers)}

    probe = probed(replace(good, answers=answers, rows=rows))

    assert [case.prompt_token_ids for case in probe.cases] == [(1, 0)]


def test_without_answers_the_probe_is_empty():
    assert probed(inputs(answers=(), rows={}, floor=None)).cases == ()
