"""What is put to judges, and what their votes say together."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest

from adapters.parity.comparison import ComparisonRules
from adapters.parity.judge_outcome import Decision, JudgeOutcome, Vote
from adapters.parity.judging import (
    SAMPLE_PAIRS,
    Question,
    conclude_votes,
    free_texts,
    plan_rest,
    plan_sample,
)
from adapters.parity.suite import Case
from adapters.parity.task_measure import TaskInputs
from tests.builders.judged_texts import agreed, pairs_of, seat, texts_of, voted

RULES = ComparisonRules()
CASES = (
    Case(id="gold", prompt="1 + 1", expect={"text": "2"}),
    Case(id="same", prompt="hi"),
    Case(id="spaced", prompt="hi"),
    Case(id="other", prompt="hi", segment="talk"),
    Case(id="silent", prompt="hi"),
)
ENGINE = {"gold": ("2",), "same": ("yes",), "spaced": ("a  b",), "other": ("new", "newer")}
ALONE = {"gold": "3", "same": "yes", "spaced": "a b", "other": "old", "silent": "x"}


def test_only_different_answers_to_cases_without_gold_are_put_to_judges() -> None:
    texts = free_texts(TaskInputs(cases=CASES, engine=ENGINE, standalone=ALONE))

    (pair,) = texts.pairs
    assert (pair.case_id, pair.segment, pair.before, pair.after) == ("other", "talk", "old", "new")
    assert texts.n_equal_by_segment == {"all": 2}
    assert texts.before_name == "standalone"


def test_the_live_version_is_what_was_before() -> None:
    live = {"same": "no", "other": "older"}
    task = TaskInputs(
        cases=CASES, engine=ENGINE, standalone=ALONE, live=live, live_version="acme/support@1"
    )

    texts = free_texts(task)

    assert [(pair.before, pair.after) for pair in texts.pairs] == [("no", "yes"), ("older", "new")]
    assert texts.before_name == "acme/support@1"
    assert texts.n_equal_by_segment == {}


def test_the_sample_asks_each_pair_in_both_orders() -> None:
    asked = plan_sample(pairs_of(n_after=30), seed=1)

    by_case: dict[str, set[bool]] = {}
    for question in asked:
        by_case.setdefault(question.case_id, set()).add(question.is_before_first)
    assert len(by_case) == SAMPLE_PAIRS
    assert set(map(frozenset, by_case.values())) == {frozenset({True, False})}


def test_the_order_turns_over_pairs_and_judges() -> None:
    pairs = pairs_of(n_after=SAMPLE_PAIRS + 10)

    plan = plan_rest(pairs, ["a", "b", "c"], seed=1)

    firsts = {
        name: [question.is_before_first for question in asked] for name, asked in plan.items()
    }
    assert {name: sum(values) for name, values in firsts.items()} == {"a": 5, "b": 5, "c": 5}
    assert firsts["a"] == firsts["c"] == [not value for value in firsts["b"]]


def test_another_seed_samples_other_pairs() -> None:
    pairs = pairs_of(n_after=100)

    assert plan_sample(pairs, seed=1) != plan_sample(pairs, seed=2)


def test_two_of_three_decide() -> None:
    pairs = pairs_of(n_after=2)
    first, second = (pair.case_id for pair in pairs)
    votes = {
        "a": {first: Vote.BEFORE, second: Vote.BEFORE},
        "b": {first: Vote.BEFORE, second: Vote.AFTER},
        "c": {first: Vote.AFTER, second: Vote.TIE},
    }

    outcome = conclude_votes(texts_of(*pairs), voted(pairs, votes), rules=RULES)

    assert [pair.decision for pair in outcome.pairs] == [Decision.BEFORE, Decision.DROPPED]
    assert outcome.total.n_dropped == 1
    assert outcome.total.n_before_preferred == 1


def test_of_two_accepted_judges_both_must_agree() -> None:
    pairs = pairs_of(n_after=2)
    first, second = (pair.case_id for pair in pairs)
    votes = {
        "a": {first: Vote.AFTER, second: Vote.BEFORE},
        "b": {first: Vote.AFTER, second: Vote.TIE},
        "c": {first: Vote.INVALID, second: Vote.INVALID},
    }

    outcome = conclude_votes(texts_of(*pairs), voted(pairs, votes), rules=RULES)

    assert outcome.n_accepted == 2
    assert [pair.decision for pair in outcome.pairs] == [Decision.AFTER, Decision.DROPPED]
    assert set(outcome.pairs[0].votes) == {"a", "b"}


def test_one_accepted_judge_decides_nothing() -> None:
    pairs = pairs_of(n_before=10)
    seats = agreed(pairs)
    seats = [seats[0], *(replace(other, problem="gone") for other in seats[1:])]

    outcome = conclude_votes(texts_of(*pairs), seats, rules=RULES)

    assert not outcome.is_usable
    assert outcome.total.n_dropped == 10
    assert (outcome.is_worse, outcome.worse_p, outcome.mcnemar_p) == (None, None, None)


@pytest.mark.parametrize(("n_steady", "is_refused"), [(18, False), (17, True)])
def test_a_judge_is_refused_under_ninety_percent_of_self_consistency(
    n_steady: int, is_refused: bool
) -> None:
    answers = {}
    for i in range(20):
        answers[Question(f"c{i}", True)] = Vote.BEFORE
        answers[Question(f"c{i}", False)] = Vote.BEFORE if i < n_steady else Vote.AFTER

    record = seat("a", answers).record

    assert (record.n, record.n_consistent) == (20, n_steady)
    assert record.consistency == n_steady / 20
    assert (record.is_refused, record.is_accepted) == (is_refused, not is_refused)


def test_no_vote_twice_is_no_consistency() -> None:
    answers = {Question("c", True): Vote.INVALID, Question("c", False): Vote.INVALID}

    record = seat("a", answers).record

    assert (record.consistency, record.is_refused, record.n_invalid) == (0.0, True, 2)


def test_a_judge_that_was_asked_nothing_has_no_consistency() -> None:
    record = seat("a", {}).record

    assert record.consistency is None
    assert not record.is_refused
    assert not record.is_accepted


def test_a_preference_that_changes_with_the_order_is_no_vote() -> None:
    answers = {Question("c", True): Vote.BEFORE, Question("c", False): Vote.AFTER}

    assert seat("a", answers).votes == {"c": Vote.UNSTEADY}


def test_a_loss_is_worse_only_where_it_is_proven() -> None:
    few, many = pairs_of(n_before=5), pairs_of(n_before=6)

    unproven = conclude_votes(texts_of(*few), agreed(few), rules=RULES)
    proven = conclude_votes(texts_of(*many), agreed(many), rules=RULES)

    assert (unproven.worse_p, unproven.is_worse) == (1 / 32, False)
    assert (proven.worse_p, proven.is_worse) == (1 / 64, True)
    assert proven.mcnemar_p == 1 / 32


def test_a_loss_within_the_margin_of_all_cases_is_none() -> None:
    pairs = pairs_of(n_before=6)

    outcome = conclude_votes(texts_of(*pairs, n_equal=1_194), agreed(pairs), rules=RULES)

    assert outcome.total.net_loss == RULES.margin
    assert outcome.is_worse is False


def test_equal_answers_need_no_judge() -> None:
    seats = [seat(name, {}) for name in "abc"]

    outcome = conclude_votes(texts_of(n_equal=9), seats, rules=RULES)

    assert outcome.is_usable
    assert (outcome.total.n_pairs, outcome.total.n_ties, outcome.total.n_asked) == (9, 9, 0)
    assert outcome.is_worse is False


def test_segments_add_up_to_the_total() -> None:
    pairs = (*pairs_of(2, 3, 1, segment="a"), *pairs_of(0, 4, 0, segment="b"))

    outcome = conclude_votes(texts_of(*pairs, n_equal=2), agreed(pairs), rules=RULES)

    by_name = {item.segment: item for item in outcome.segments}
    assert set(by_name) == {"a", "all", "b"}
    assert (by_name["a"].n_before_preferred, by_name["a"].n_after_preferred) == (2, 3)
    assert sum(item.n_pairs for item in outcome.segments) == outcome.total.n_pairs == 12


def test_an_outcome_survives_being_kept() -> None:
    pairs = pairs_of(2, 3, 1)
    outcome = conclude_votes(texts_of(*pairs), agreed(pairs), rules=RULES)

    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(outcome), type=JudgeOutcome)

    assert kept == outcome


def test_the_reports_part_has_every_vote_and_no_address() -> None:
    pairs = pairs_of(1, 1)
    outcome = conclude_votes(texts_of(*pairs), agreed(pairs), rules=RULES)

    data = json.loads(json.dumps(outcome.to_json()))

    assert data["judges"][0] == {
        "name": "j0", "host": "judges.example", "model": "model-j0", "consistency": 1.0, "n": 2,
        "n_consistent": 2, "n_questions": 4, "n_invalid": 0, "is_refused": False,
        "is_accepted": True, "problem": None,
    }  # fmt: skip
    assert data["pairs"][0] == {
        "case_id": "all-after-1", "segment": "all", "decision": "after",
        "votes": {"j0": "after", "j1": "after", "j2": "after"},
    }  # fmt: skip
    assert data["total"]["n_before_preferred"] == data["total"]["n_after_preferred"] == 1
