"""Levels 2 and 3 from texts: who is compared with whom, and what stays undefined."""

from __future__ import annotations

from dataclasses import replace

from adapters.parity.comparison import ComparisonRules
from adapters.parity.scoring import AnswerEquality
from adapters.parity.suite import Case
from adapters.parity.task_measure import (
    TaskInputs,
    count_equality,
    measure_task,
    summarise_sides,
)
from tests.builders.task_cases import answered, gold_cases

RULES = ComparisonRules(n_resamples=200)
CASES = gold_cases({"refund": 30, "order": 40})


def test_the_engine_is_compared_with_the_standalone_model_case_by_case() -> None:
    task = measure_task(answered(CASES, wrong_engine=["refund-0", "refund-1"]), RULES)

    assert task.n_gold == task.n_scored == 70
    assert task.serving is not None
    assert (task.serving.total.n_worse, task.serving.total.n_better) == (2, 0)
    refund = next(item for item in task.serving.segments if item.segment == "refund")
    assert refund.n_worse == 2
    assert task.live is None


def test_the_live_version_is_what_a_new_version_is_held_against() -> None:
    task = measure_task(answered(CASES, wrong_live=["order-3"]), RULES)

    assert task.live is not None
    assert task.live.before_name == "acme/support@1"
    assert (task.live.total.n_worse, task.live.total.n_better) == (0, 1)


def test_a_suite_without_gold_has_equality_and_nothing_to_compare() -> None:
    cases = tuple(replace(case, expect=None) for case in CASES)

    task = measure_task(answered(cases, wrong_engine=["refund-0"]), RULES)

    assert (task.n_gold, task.serving, task.pass_rates) == (0, None, None)
    assert count_equality(task.cases).n_different == 1
    assert count_equality(task.cases).n_exact == 69


def test_the_worst_repeat_decides_whether_an_answer_is_the_same() -> None:
    task = measure_task(answered(CASES, wrong_in_one_repeat=["order-1"]), RULES)

    one = next(item for item in task.cases if item.case_id == "order-1")
    assert one.equality is AnswerEquality.DIFFERENT
    assert [score.is_pass for score in one.engine] == [True, True, False]


def test_pass_rates_spread_when_repeats_disagree() -> None:
    task = measure_task(answered(CASES, wrong_in_one_repeat=["order-1", "order-2"]), RULES)

    assert task.pass_rates == (1.0, 1.0, 68 / 70)
    assert task.pass_rate_spread is not None
    assert abs(task.pass_rate_spread - 2 / 70) < 1e-12


def test_an_unanswered_case_is_left_out_and_not_counted_as_wrong() -> None:
    full = answered(CASES)
    standalone = {key: value for key, value in full.standalone.items() if key != "refund-0"}

    task = measure_task(replace(full, standalone=standalone), RULES)

    assert task.n_scored == 69
    assert task.serving is not None
    assert task.serving.total.n == 69
    first = next(item for item in task.cases if item.case_id == "refund-0")
    assert (first.equality, first.standalone) == (None, None)


def test_nothing_asked_is_nothing_measured() -> None:
    task = measure_task(TaskInputs(), RULES)

    assert (task.cases, task.serving, task.pass_rates, task.pass_rate_spread) == (
        (),
        None,
        None,
        None,
    )


def test_equal_up_to_spelling_is_told_from_equal_and_from_different() -> None:
    case = Case(id="c", prompt="x", expect={"json": {"a": 1, "b": 2}})
    inputs = TaskInputs(
        cases=(case,), engine={"c": ('{"b": 2, "a": 1}',)}, standalone={"c": '{"a": 1, "b": 2}'}
    )

    task = measure_task(inputs, RULES)

    assert task.cases[0].equality is AnswerEquality.EQUIVALENT


def test_each_side_has_its_own_measures_and_an_absent_side_is_undefined() -> None:
    task = measure_task(answered(CASES, wrong_engine=["refund-0"]), RULES)

    rates = summarise_sides(task.cases)["pass_rate"]
    assert rates["standalone"] == 1.0
    assert rates["engine"] == 69 / 70
    assert rates["live"] is None
